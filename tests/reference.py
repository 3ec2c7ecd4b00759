"""Slow, obvious implementations that the engine must agree with.

`exact_epochs` is full-graph training with dense matrices and plain autograd, with each model written out
from its formula. `stale_epochs` spells out what every pair of chunks reads of each other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnpipe.graph.csr import Csr
from gnnpipe.graph.data import GraphData
from gnnpipe.graph.prepared import PreparedGraph
from gnnpipe.model.dropout import Dropout, dropout_key, keep_all
from gnnpipe.model.stack import build_stack
from gnnpipe.plan.staleness import chunk_orders
from tests.graphs import dense
from tests.harness import LEARNING_RATE, Case, Outcome


def dense_adjacency(data: GraphData, normalization: str) -> Tensor:
    """A from its definition."""
    A = dense(data.adjacency).double()
    if normalization == "gcn":
        A.fill_diagonal_(1.0)
        degree = A.sum(dim=1)
        return (A / degree.sqrt().outer(degree.sqrt())).float()
    degree = A.sum(dim=1, keepdim=True)
    return torch.where(degree > 0, A / degree.clamp(min=1e-30), 0.0).float()


def exact_epochs(case: Case) -> Outcome:
    """Full-graph training; losses, gradients and, at the end, logits, rows by original node id."""
    data = case.data
    X = dense(data.features) if isinstance(data.features, Csr) else data.features
    A = dense_adjacency(data, case.spec.normalization)
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


def mean_loss(logits: Tensor, data: GraphData) -> Tensor:
    chosen, labels = logits[data.train_mask], data.labels[data.train_mask]
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(chosen, labels)
    return F.cross_entropy(chosen, labels)


def model(case: Case, w: dict[str, Tensor], A: Tensor, X: Tensor, draw: int | None) -> Tensor:
    """Each model from its formula; ``draw`` is None in evaluation."""

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
        return h
    if case.model == "sage":
        h = X
        for i in range(L):
            x = drop(h, i)
            h = x @ w[f"layers.{i}.weight_self"] + A @ x @ w[f"layers.{i}.weight_neighbour"]
            h = h + w[f"layers.{i}.bias"]
            h = F.relu(h) if i < L - 1 else h
        return h
    if case.model == "gcnii":
        alpha, theta = case.spec.gcnii.alpha, case.spec.gcnii.theta
        h = h0 = F.relu(drop(X, 0) @ w["input.weight"] + w["input.bias"])
        for i in range(L):
            beta = math.log(theta / (i + 1) + 1)
            s = (1 - alpha) * (A @ drop(h, i + 1)) + alpha * h0
            h = F.relu((1 - beta) * s + beta * s @ w[f"layers.{i}.weight"])
        return drop(h, L + 1) @ w["output.weight"] + w["output.bias"]
    h = drop(X, 0) @ w["input.weight"] + w["input.bias"]
    for i in range(L):
        layer = f"layers.{i}"
        x = F.relu(F.layer_norm(h, h.shape[1:], w[f"{layer}.norm.weight"], w[f"{layer}.norm.bias"]))
        h = h + A @ drop(x, i + 1) @ w[f"{layer}.weight"] + w[f"{layer}.bias"]
    h = F.relu(F.layer_norm(h, h.shape[1:], w["output.norm.weight"], w["output.norm.bias"]))
    return drop(h, L + 1) @ w["output.weight"] + w["output.bias"]


def stale_epochs(case: Case, graph: PreparedGraph) -> Outcome:
    """Training by chunks, with every message between two chunks looked up one by one.

    Rows are in the prepared graph's numbering, but for the exact logits at the end. Parts are not known here,
    as they must change nothing, but for ``halo="stale"``: what crosses parts is then last epoch's.
    """
    settings = case.staleness
    A = dense(graph.matrix)
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
    # rows of the whole graph as of last epoch, for what crosses parts
    x_before: list[Tensor | None] = [None for _ in layers]
    d_before: list[Tensor | None] = [None for _ in layers]
    num_layers, K = len(layers), len(ranges)
    # what each layer last computed for each chunk, and the snapshot that freeze reads; nothing yet is zero
    newest: list[dict[int, Tensor]] = [{} for _ in layers]
    snapshot: list[dict[int, Tensor]] = [{} for _ in layers]
    previous: list[dict[int, Tensor]] = [{} for _ in layers]
    assert settings.order is not None
    assert settings.freeze is not None
    assert settings.dropout_hold is not None
    assert settings.weight is not None
    orders = chunk_orders(settings.order, K, case.seed)
    outcome = Outcome([], [], {}, None)
    for epoch in range(case.epochs):
        order = next(orders)
        if settings.freeze == 1 or epoch % settings.freeze == 1:
            snapshot = [dict(rows) for rows in newest]
        draw = epoch // settings.dropout_hold
        fresh: list[dict[int, Tensor]] = [{} for _ in layers]
        kept: dict[tuple[int, int], tuple] = {}
        h0: dict[int, Tensor] = {}
        loss_sum = 0.0
        num_train = int(graph.masks["train"].sum())
        g_out: dict[int, Tensor] = {}
        for c in order:
            h = X[ranges[c]]
            for number, layer in enumerate(layers):
                key = dropout_key(case.seed, draw, number)
                drop = Dropout(case.dropout, key, graph.node_id[ranges[c]])
                h = h.detach().requires_grad_()
                x, carry = layer.message(h, drop)
                leaf = None if carry is None else carry.detach().requires_grad_()
                z = None
                if x is not None:
                    fresh[number][c] = x.detach()
                    z = torch.zeros(len(h), x.shape[1])
                    for other in range(K):
                        source = fresh[number].get(other, snapshot[number].get(other))
                        if source is not None:
                            z = z + A[ranges[c]][:, ranges[other]] @ source
                    before = x_before[number]
                    if before is not None:
                        z = z + A_across[ranges[c]] @ before
                    z = z.detach().requires_grad_()
                    clean, _ = layer.message(h, keep_all)
                    assert clean is not None
                    newest[number][c] = clean.detach() if settings.history == "clean" else x.detach()
                out = layer.update(z, leaf, h0.get(c))
                kept[c, number] = (h, x, carry, leaf, z, out)
                h = out
                if case.model == "gcnii" and number == 0:
                    h0[c] = h.detach().requires_grad_()
            logits = h.detach().requires_grad_()
            mask, labels = graph.masks["train"][ranges[c]], graph.labels[ranges[c]]
            loss = F.cross_entropy(logits[mask], labels[mask], reduction="sum")
            loss_sum += float(loss.detach())
            (g_out[c],) = torch.autograd.grad(loss / num_train, logits)
        today: list[dict[int, Tensor]] = [{} for _ in layers]
        for c in reversed(order):
            g = g_out[c]
            for number in reversed(range(num_layers)):
                h, x, carry, leaf, z, out = kept[c, number]
                if case.model == "gcnii" and number == 0:
                    g = g + h0[c].grad
                out.backward(g)
                if leaf is not None and leaf.grad is not None:
                    carry.backward(leaf.grad, retain_graph=True)
                if x is not None:
                    today[number][c] = z.grad
                    g_x = torch.zeros_like(x)
                    for reader in range(K):
                        d, d_prev = today[number].get(reader), previous[number].get(reader)
                        weighted = _weighted(settings.gradient, settings.weight, reader == c, d, d_prev)
                        if weighted is not None:
                            g_x = g_x + A[ranges[reader]][:, ranges[c]].T @ weighted
                    before = d_before[number]
                    if before is not None:
                        g_x = g_x + A_across[:, ranges[c]].T @ before
                    if x.requires_grad:
                        x.backward(g_x)
                g = h.grad
        previous = today
        if case.halo == "stale":
            x_before = [_by_row(rows, ranges) for rows in fresh]
            d_before = [_by_row(rows, ranges) for rows in today]
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
        logits = model(case, dict(found), dense(graph.matrix), X, None)
        outcome.logits = logits[torch.argsort(graph.node_id)]
    return outcome


def _by_row(rows: dict[int, Tensor], ranges: list[Tensor]) -> Tensor | None:
    """Rows of all chunks, in the prepared numbering."""
    if not rows:
        return None
    result = torch.empty(sum(map(len, ranges)), next(iter(rows.values())).shape[1])
    for c, values in rows.items():
        result[ranges[c]] = values
    return result


def _weighted(
    gradient: str | None, weight: float, own: bool, d: Tensor | None, d_prev: Tensor | None
) -> Tensor | None:
    """What one chunk's gradient counts for another: the table of the design, word by word."""
    before = torch.zeros(()) if d_prev is None else d_prev
    if own:
        return d
    if d is not None:
        return {"fresh": 2 * d, "reuse": d, "corrected": 2 * d - weight * before}[str(gradient)]
    if d_prev is None:
        return None
    return {"fresh": None, "reuse": d_prev, "corrected": weight * d_prev}[str(gradient)]
