"""Slow, obvious implementations that the engine must agree with.

`exact_epochs` is full-graph training with dense matrices and plain autograd, with each model written out
from its formula. `stale_epochs` computes for every pair of chunks the rows and gradients that one reads of
the other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import Graph
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.dropout import Dropout, dropout_key, keep_all
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import build_stack
from gnnpipe.schedule.staleness import chunk_orders
from tests.graphs import dense
from tests.harness import LEARNING_RATE, Case, Outcome


def dense_adjacency(data: Graph, model: str) -> Tensor:
    """Normalised adjacency from its definition in the model's paper, without code of the package."""
    A = dense(data.adjacency).double()
    if model != "sage":
        A.fill_diagonal_(1.0)
        degree = A.sum(dim=1)
        return (A / degree.sqrt().outer(degree.sqrt())).float()
    degree = A.sum(dim=1, keepdim=True)
    return torch.where(degree > 0, A / degree.clamp(min=1e-30), 0.0).float()


def exact_epochs(case: Case) -> Outcome:
    """Full-graph training: losses and gradients by epoch, and logits at the end, rows by original node id."""
    data = case.data
    X = dense(data.features) if isinstance(data.features, Csr) else data.features
    A = dense_adjacency(data, case.model)
    weights = {
        f"{item.name}.{name}": nn.Parameter(weight.detach().clone())
        for item in build_stack(case.spec)
        for name, weight in item().named_parameters()
    }
    outcome = Outcome([], [], {}, None)
    hold = case.staleness.dropout_hold
    assert hold is not None
    for epoch in range(case.epochs):
        logits = model(case, weights, A, X, epoch // hold)
        loss = mean_loss(logits, data)
        found = torch.autograd.grad(loss, list(weights.values()))
        outcome.losses.append(float(loss.detach()))
        outcome.gradients.append(dict(zip(weights, found, strict=True)))
        with torch.no_grad():
            for weight, gradient in zip(weights.values(), found, strict=True):
                weight -= LEARNING_RATE * gradient
    with torch.no_grad():
        outcome.logits = model(case, weights, A, X, None)
    return outcome


def mean_loss(logits: Tensor, data: Graph) -> Tensor:
    chosen, labels = logits[data.train_mask], data.labels[data.train_mask]
    if data.regression:
        labels = labels.view(len(labels), -1)
        return F.mse_loss(chosen, (labels - labels.mean(dim=0)) / labels.std(dim=0, correction=0))
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(chosen, labels)
    return F.cross_entropy(chosen, labels)


def model(
    case: Case,
    w: dict[str, Tensor],
    A: Tensor,
    X: Tensor,
    draw: int | None,
    hidden: list[Tensor] | None = None,
) -> Tensor:
    """Logits of each model from its formula.

    Args:
        case: model and settings.
        w: weights by name.
        A: normalised adjacency.
        X: features.
        draw: number of the draw of the dropout masks; None for evaluation.
        hidden: list to which the rows after each convolution are added, and before them those of the input
            layer, if the model has one; but not the logits.
    """
    hidden = [] if hidden is None else hidden

    def drop(h: Tensor, number: int) -> Tensor:
        if draw is None:
            return h
        result = Dropout(case.dropout, dropout_key(case.seed, draw, number), torch.arange(len(h)))(h)
        assert isinstance(result, Tensor)
        return result

    L = case.layers
    if case.model == "gcn":
        h = X
        for i in range(L):
            h = A @ (drop(h, i) @ w[f"layers.{i}.weight"]) + w[f"layers.{i}.bias"]
            h = F.relu(h) if i < L - 1 else h
            hidden += [h] * (i < L - 1)
        return h
    if case.model == "sage":
        h = X
        for i in range(L):
            x = drop(h, i)
            h = x @ w[f"layers.{i}.weight_self"] + A @ x @ w[f"layers.{i}.weight_neighbour"]
            h = h + w[f"layers.{i}.bias"]
            h = F.relu(h) if i < L - 1 else h
            hidden += [h] * (i < L - 1)
        return h
    if case.model == "gcnii":
        alpha, theta = case.spec.gcnii.alpha, case.spec.gcnii.theta
        h = h0 = F.relu(drop(X, 0) @ w["input.weight"] + w["input.bias"])
        hidden.append(h0)
        for i in range(L):
            beta = math.log(theta / (i + 1) + 1)
            s = (1 - alpha) * (A @ drop(h, i + 1)) + alpha * h0
            h = F.relu((1 - beta) * s + beta * s @ w[f"layers.{i}.weight"])
            hidden.append(h)
        return drop(h, L + 1) @ w["output.weight"] + w["output.bias"]
    h = drop(X, 0) @ w["input.weight"] + w["input.bias"]
    hidden.append(h)
    groups = case.options.groups
    for block in range(L // groups if groups > 1 else 0):
        # y_0 is the sum of x_2 ... x_G, and y_i = x_i + f_i(y_{i - 1}): arXiv 2106.07476, section 3.2
        rows = list(h.chunk(groups, dim=1))
        y = sum(rows[1:], torch.zeros_like(rows[0]))
        for group in range(groups):
            i = block * groups + group
            layer = f"layers.{i}.inner"
            x = F.relu(F.layer_norm(y, y.shape[1:], w[f"{layer}.norm.weight"], w[f"{layer}.norm.bias"]))
            rows[group] = y = rows[group] + A @ drop(x, i + 1) @ w[f"{layer}.weight"] + w[f"{layer}.bias"]
            h = torch.cat(rows, dim=1)
            hidden.append(h)
    for i in range(L if groups == 1 else 0):
        layer = f"layers.{i}"
        x = F.relu(F.layer_norm(h, h.shape[1:], w[f"{layer}.norm.weight"], w[f"{layer}.norm.bias"]))
        h = h + A @ drop(x, i + 1) @ w[f"{layer}.weight"] + w[f"{layer}.bias"]
        hidden.append(h)
    h = F.relu(F.layer_norm(h, h.shape[1:], w["output.norm.weight"], w["output.norm.bias"]))
    return drop(h, L + 1) @ w["output.weight"] + w["output.bias"]


def stale_epochs(case: Case, graph: PreparedGraph) -> Outcome:
    """Training by chunks, with every message between two chunks looked up one by one.

    It goes layer by layer, because freshness follows from the positions of the two chunks and not from the
    time of computation. Rows are in the prepared graph's numbering; only the exact logits at the end are by
    original node id. Parts are ignored, as they must change nothing, except with ``halo="stale"``: messages
    that cross parts are then last epoch's.
    """
    settings, q = case.staleness, case.lookahead
    A = dense_adjacency(case.data, case.model)[graph.node_id][:, graph.node_id]
    whole = A
    part = torch.cat([torch.full((n,), p) for p, n in enumerate(graph.facts.part_nodes)])
    crosses = (part[:, None] != part[None, :]) & (case.halo == "stale")
    A_across = A * crosses
    A = A * ~crosses
    X = dense(graph.features) if isinstance(graph.features, Csr) else graph.features
    layers = [item() for item in build_stack(case.spec)]
    names = [item.name for item in build_stack(case.spec)]
    ranges = [
        torch.cat([torch.arange(chunk.start, chunk.stop) for chunk in chunks])
        for chunks in zip(*graph.ranges, strict=True)
    ]
    # last epoch's rows of the whole graph, for messages that cross parts
    x_before: list[Tensor | None] = [None for _ in layers]
    d_before: list[Tensor | None] = [None for _ in layers]
    num_layers, K = len(layers), len(ranges)
    # each layer's newest rows of each chunk, and the snapshot that freeze reads; absent rows count as zero
    newest: list[dict[int, Tensor]] = [{} for _ in layers]
    snapshot: list[dict[int, Tensor]] = [{} for _ in layers]
    previous: list[dict[int, Tensor]] = [{} for _ in layers]
    weights = [0.0 if settings.weight == "fitted" else float(settings.weight or 0.0) for _ in layers]
    assert settings.order is not None
    assert settings.freeze is not None
    assert settings.dropout_hold is not None
    orders = chunk_orders(settings.order, K, case.seed)
    outcome = Outcome([], [], {}, None)
    pairs = [(c, other) for c in range(K) for other in range(K) if c != other]
    for epoch in range(case.epochs):
        order = next(orders)
        position = {c: i for i, c in enumerate(order)}
        # whether reader c finds the rows of `other` fresh, and in which share of the pairs that is so
        fresh_for = {(c, other): position[other] <= position[c] + q for c, other in pairs}
        share = sum(fresh_for.values()) / len(pairs) if pairs else 1.0
        draw = epoch // settings.dropout_hold
        drops = [
            [Dropout(case.dropout, dropout_key(case.seed, draw, n), graph.node_id[rows]) for rows in ranges]
            for n in range(num_layers)
        ]
        if _takes_snapshot(settings.freeze, epoch):
            snapshot = [dict(rows) for rows in newest]
        if settings.refresh and epoch % settings.refresh == 0:
            newest = _exact_messages(layers, A + A_across, X, ranges, drops, settings.history == "clean")
            snapshot = [dict(rows) for rows in newest]
        today: list[dict[int, Tensor]] = [{} for _ in layers]
        kept: dict[tuple[int, int], tuple] = {}
        h0: dict[int, Tensor] = {}
        h = {c: X[rows] for c, rows in enumerate(ranges)}
        for number, layer in enumerate(layers):
            messages = {}
            for c in range(K):
                h[c] = h[c].detach().requires_grad_()
                messages[c] = layer.message(h[c], drops[number][c])
            written: dict[int, Tensor] = {}
            for c in range(K):
                x, carry = messages[c]
                leaf = None if carry is None else carry.detach().requires_grad_()
                z = None
                if x is not None:
                    today[number][c] = x.detach()
                    z = torch.zeros(len(h[c]), x.shape[1])
                    for other in range(K):
                        is_fresh = other == c or fresh_for[c, other]
                        source = messages[other][0].detach() if is_fresh else snapshot[number].get(other)
                        if source is not None:
                            z = z + A[ranges[c]][:, ranges[other]] @ source
                    before = x_before[number]
                    if before is not None:
                        z = z + A_across[ranges[c]] @ before
                    z = z.detach().requires_grad_()
                    clean, _ = layer.message(h[c], keep_all)
                    assert clean is not None
                    written[c] = clean.detach() if settings.history == "clean" else x.detach()
                kept[c, number] = (h[c], x, carry, leaf, z, layer.update(z, leaf, h0.get(c)))
            newest[number] = written
            h = {c: kept[c, number][-1] for c in range(K)}
            if case.model == "gcnii" and number == 0:
                h0 = {c: rows.detach().requires_grad_() for c, rows in h.items()}
        loss_sum = 0.0
        num_train = int(graph.masks["train"].sum())
        g: dict[int, Tensor] = {}
        for c in range(K):
            logits = h[c].detach().requires_grad_()
            mask, labels = graph.masks["train"][ranges[c]], graph.labels[ranges[c]]
            loss = F.cross_entropy(logits[mask], labels[mask], reduction="sum")
            loss_sum += float(loss.detach())
            (g[c],) = torch.autograd.grad(loss / num_train, logits)
        gradients: list[dict[int, Tensor]] = [{} for _ in layers]
        for number in reversed(range(num_layers)):
            for c in range(K):
                _, _, carry, leaf, z, out = kept[c, number]
                if case.model == "gcnii" and number == 0:
                    g[c] = g[c] + h0[c].grad
                out.backward(g[c])
                if leaf is not None and leaf.grad is not None:
                    carry.backward(leaf.grad, retain_graph=True)
                if z is not None and z.requires_grad:
                    gradients[number][c] = z.grad
            for c in range(K):
                x = kept[c, number][1]
                if x is not None and x.requires_grad:
                    g_x = torch.zeros_like(x)
                    for reader in range(K):
                        d, d_prev = gradients[number].get(reader), previous[number].get(reader)
                        if reader != c:
                            d = d if fresh_for[reader, c] else None
                            d = _weighted(settings.gradient, weights[number], share, d, d_prev)
                        if d is not None:
                            g_x = g_x + A[ranges[reader]][:, ranges[c]].T @ d
                    before = d_before[number]
                    if before is not None:
                        g_x = g_x + A_across[:, ranges[c]].T @ before
                    x.backward(g_x)
                g[c] = kept[c, number][0].grad
            if settings.weight == "fitted":
                weights[number] = _fitted(gradients[number], previous[number])
        previous = gradients
        if case.halo == "stale":
            x_before = [_by_row(rows, ranges) for rows in today]
            d_before = [_by_row(rows, ranges) for rows in gradients]
        found = {
            f"{name}.{key}": weight
            for name, layer in zip(names, layers, strict=True)
            for key, weight in layer.named_parameters()
        }
        outcome.losses.append(loss_sum / num_train)
        outcome.gradients.append({k: w.grad.clone() for k, w in found.items() if w.grad is not None})
        with torch.no_grad():
            for weight in found.values():
                if weight.grad is not None:
                    weight -= LEARNING_RATE * weight.grad
                    weight.grad = None
    with torch.no_grad():
        logits = model(case, dict(found), whole, X, None)
        outcome.logits = logits[torch.argsort(graph.node_id)]
    return outcome


def _takes_snapshot(freeze: int | str, epoch: int) -> bool:
    """Whether ``epoch`` takes one: every R epochs from epoch 1 on, or from the epoch where R changes."""
    start, epochs = 0, 1
    for item in str(freeze).split(","):
        number, _, since = item.partition("@")
        if epoch >= int(since or 0):
            start, epochs = max(int(since or 0), 1), int(number)
    return epoch >= 1 and (epoch - start) % epochs == 0


@torch.no_grad()
def _exact_messages(
    layers: list[Layer],
    A: Tensor,
    X: Tensor,
    ranges: list[Tensor],
    drops: list[list[Dropout]],
    clean: bool,
) -> list[dict[int, Tensor]]:
    """Messages of an exact pass, by layer and chunk.

    The pass itself has no dropout. Dropout is applied to the messages returned, unless ``clean``.
    """
    h, h0 = X, None
    result: list[dict[int, Tensor]] = []
    for number, layer in enumerate(layers):
        x, carry = layer.message(h, keep_all)
        result.append({})
        for c, rows in enumerate(ranges if x is not None else []):
            message, _ = layer.message(h[rows], keep_all if clean else drops[number][c])
            assert message is not None
            result[-1][c] = message
        h = layer.update(None if x is None else A @ x, carry, h0)
        h0 = h if number == 0 else h0
    return result


def _fitted(d: dict[int, Tensor], d_prev: dict[int, Tensor]) -> float:
    """Least-squares weight of last epoch's gradients as a prediction of this epoch's, clamped to 0 to 1."""
    if not d_prev or not d:
        return 0.0
    today = torch.cat([d[c] for c in sorted(d)]).double()
    before = torch.cat([d_prev[c] for c in sorted(d)]).double()
    square = float((before * before).sum())
    if not square:  # for example, a ReLU let no output through
        return 0.0
    return min(max(float((today * before).sum()) / square, 0.0), 1.0)


def _by_row(rows: dict[int, Tensor], ranges: list[Tensor]) -> Tensor | None:
    """Rows of all chunks as one matrix, in the prepared graph's numbering; None without rows."""
    if not rows:
        return None
    result = torch.empty(sum(map(len, ranges)), next(iter(rows.values())).shape[1])
    for c, values in rows.items():
        result[ranges[c]] = values
    return result


def _weighted(
    gradient: str | None, weight: float, share: float, d: Tensor | None, d_prev: Tensor | None
) -> Tensor | None:
    """Contribution of a reader's gradient to another chunk, by the table in docs/staleness.md.

    Args:
        gradient: the rule.
        weight: w of the table.
        share: share of pairs that are fresh, p of the table.
        d: the reader's gradient of this epoch; None if it is not fresh.
        d_prev: its gradient of the last epoch; None in the first one.
    """
    before = torch.zeros(()) if d_prev is None else d_prev
    if d is not None:
        corrected = (d - (1 - share) * weight * before) / share
        return {"fresh": d / share, "reuse": d, "corrected": corrected}[str(gradient)]
    if d_prev is None:
        return None
    return {"fresh": None, "reuse": weight * d_prev, "corrected": weight * d_prev}[str(gradient)]
