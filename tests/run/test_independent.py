"""A whole run equals the same one in plain PyTorch with torch_geometric's layers: rates, clipping, the
optimiser, averages, evaluation and the weights on disk, and so after a resume."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gnnpipe.config.run import Model, OptimizerConfig, RunConfig
from gnnpipe.graph.data import Graph
from gnnpipe.graph.sources.datasets import load_dataset
from gnnpipe.nn.models import build_stack
from tests.faults.runs import Run
from tests.graphs import dense
from tests.pyg import edges, leaves, pyg_logits, pyg_loss

EPOCHS, WARMUP, CLIP, LR, DECAY, AVERAGING = 8, 2, 0.35, 0.05, 0.01, 0.8
OPTIMIZER = OptimizerConfig(
    "adam", betas=(0.8, 0.95), averaging=AVERAGING, schedule="cosine", warmup=WARMUP, clip=CLIP
)


@dataclass
class Plain:
    """What plain training comes to."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    """Of the gradients before clipping."""
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    """Of the averaged weights, by epoch."""
    raw_scores: dict[int, dict[str, float]] = field(default_factory=dict)
    """Of the weights themselves."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """The averages with the best validation."""
    best_epoch: int = -1


def rate(epoch: int) -> float:
    if epoch < WARMUP:
        return LR * (epoch + 1) / (WARMUP + 1)
    return LR * (1 + math.cos(math.pi * (epoch - WARMUP) / (EPOCHS - WARMUP))) / 2


def train_plainly(config: RunConfig, data: Graph, w: dict[str, Tensor]) -> Plain:
    assert isinstance(data.features, Tensor)
    edge_index, X = edges(dense(data.adjacency)), data.features
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer.name]
    optimizer = kind(list(w.values()), lr=LR, betas=(0.8, 0.95), weight_decay=DECAY)
    found, averages = Plain(), dict[str, Tensor]()
    for epoch in range(EPOCHS):
        optimizer.zero_grad()
        loss = pyg_loss(
            pyg_logits(config.model, config.layers, w, X, edge_index), data.labels, data.train_mask
        )
        loss.backward()
        gradients = [weight.grad for weight in w.values()]
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients if g is not None))
        for gradient in gradients:
            assert gradient is not None
            gradient.mul_(min(1.0, CLIP / norm))
        optimizer.param_groups[0]["lr"] = rate(epoch)
        optimizer.step()
        raw = {name: weight.detach().clone() for name, weight in w.items()}
        averages = {
            name: weight if epoch == 0 else AVERAGING * averages[name] + (1 - AVERAGING) * weight
            for name, weight in raw.items()
        }
        found.rates.append(rate(epoch))
        found.losses.append(float(loss.detach()))
        found.norms.append(norm)
        if (epoch + 1) % config.eval_every == 0 or epoch + 1 == EPOCHS:
            for weights, scores in ((averages, found.scores), (raw, found.raw_scores)):
                logits = pyg_logits(config.model, config.layers, weights, X, edge_index)
                hits = (logits.argmax(dim=1) == data.labels).double()
                scores[epoch] = {name: float(hits[mask].mean()) for name, mask in data.masks.items()}
            if found.best_epoch < 0 or found.scores[epoch]["val"] > found.scores[found.best_epoch]["val"]:
                found.best_epoch, found.best = epoch, averages
    return found


def assert_same_run(run: Run, plain: Plain) -> None:
    records = run.folder.records()
    assert [record.lr for record in records] == pytest.approx(plain.rates)
    # a handful of float32 steps: a hundred times the default tolerance
    assert run.losses() == pytest.approx(plain.losses, rel=1e-4)
    for record in records:
        scores = {} if record.scores is None else vars(record.scores)
        assert scores == pytest.approx(plain.scores.get(record.epoch, {}))
    best = run.folder.summary().best
    assert best.epoch == plain.best_epoch
    assert best.val == pytest.approx(plain.scores[plain.best_epoch]["val"])
    assert best.test == pytest.approx(plain.scores[plain.best_epoch]["test"])
    weights = load_file(run.folder.path / "model.safetensors")
    assert weights.keys() == plain.best.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, plain.best[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("model", "parts", "name"),
    [("sage", 1, "adam"), ("gcnii", 2, "adamw")],
)
def test_a_run_and_one_that_goes_on_equal_plain_training(
    model: Model, parts: int, name: str, tmp_path: Path
) -> None:
    optimizer = OptimizerConfig(**{**vars(OPTIMIZER), "name": name})
    run = Run.prepare(
        tmp_path / "run",
        model=model,
        parts=parts,
        chunks=1,
        epochs=EPOCHS,
        eval_every=3,
        dropout=0.0,
        lr=LR,
        weight_decay=DECAY,
        optimizer=optimizer,
        keep_checkpoints=9,
    )
    config = run.job.config
    w = leaves(
        {f"{item.name}.{k}": p for item in build_stack(run.job.spec) for k, p in item().named_parameters()}
    )
    plain = train_plainly(config, load_dataset(config), w)
    # each of these settings changes something here
    assert min(plain.norms) < CLIP < max(plain.norms)  # Adam does not feel a factor that is always there
    assert plain.scores != plain.raw_scores
    assert_same_run(run.train(), plain)
    for epochs in (6, 8):
        shutil.rmtree(run.folder.path / "checkpoints" / f"epoch-{epochs:08d}")
    again = run.again()
    assert again.job.start
    assert again.job.start.epochs == 4
    assert_same_run(again.train(), plain)
