"""Changes to the core that a tired engineer might make. The tests must notice every one; see ``mutate``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One change."""

    name: str
    """What is wrong with it, in a few words."""
    file: str
    """Of the package."""
    old: str
    """Found exactly once."""
    new: str
    tests: str
    """Arguments for pytest: the fast tests that ought to notice."""


PYG = "tests/engine/test_pyg.py"
INDEPENDENT = "tests/run/test_independent.py"
OPTIMIZER = "tests/engine/test_optimizer.py"
SCHEDULE = "tests/schedule/test_actions.py"
RULES = "tests/schedule/test_staleness.py"
AGES = "tests/schedule/test_freshness.py"
STALENESS = "tests/engine/test_staleness.py"
LOOKAHEAD = "tests/engine/test_lookahead.py"
PARTS = "tests/engine/test_parts.py"
BOUNDARIES = "tests/engine/test_boundaries.py"
PUSH = "tests/engine/test_push.py"
REVERSIBLE = "tests/engine/test_reversible.py"
GRADIENT_CHECK = "tests/engine/test_gradient_check.py"
RESUME = "tests/faults/test_resume.py -k every_setting"
NUMBERS = "tests/faults/test_numbers.py -k stale_halo"
PARTITION = "tests/graph/cut/test_partition.py"
SPLITS = "tests/graph/test_splits.py"
METRICS = "tests/nn/test_metrics.py"
DROPOUT = "tests/nn/test_dropout.py"

CHANGES = (
    # normalisation and layers
    Change(
        "GraphSAGE multiplies with GCN's adjacency",
        "nn/models.py",
        'normalization="mean"',
        'normalization="gcn"',
        PYG,
    ),
    Change(
        "self loops of the graph count beside the added ones",
        "graph/prepare/entries.py",
        "kept = rows.col != ids[row]",
        "kept = rows.col >= 0",
        PYG,
    ),
    Change(
        "layers of GCNII behind the first count one less",
        "nn/models.py",
        "GcniiLayer(spec.hidden, index + 1,",
        "GcniiLayer(spec.hidden, index or 1,",
        PYG,
    ),
    # evaluation, weights on disk, what is best
    Change(
        "evaluation takes the weights themselves, not their averages",
        "run/trainer.py",
        "with self._epochs.averaged.in_place():\n            measure",
        "if True:\n            measure",
        INDEPENDENT,
    ),
    Change(
        "model.safetensors gets the weights themselves, not their averages",
        "run/trainer.py",
        "with self._epochs.averaged.in_place():\n            for layer",
        "if True:\n            for layer",
        INDEPENDENT,
    ),
    Change(
        "only one part's nodes are evaluated",
        "run/evaluation.py",
        "for _, state in parts:",
        "for _, state in parts[:1]:",
        INDEPENDENT,
    ),
    Change(
        "of two epochs that are as good the later one is the best",
        "nn/metrics.py",
        "else score > other",
        "else score >= other",
        "tests/records/test_folder.py tests/records/test_progress.py",
    ),
    Change(
        "micro-F1 is macro-F1",
        "nn/tallies.py",
        "float(2 * correct.sum() / (count.sum() + predicted.sum()).clamp(min=1))",
        "_mean(2 * correct / (count + predicted).clamp(min=1))",
        METRICS,
    ),
    Change(
        "the table error adds up from one refresh to the next",
        "engine/sweep.py",
        "    table.forget_error()\n",
        "",
        f"{STALENESS} {GRADIENT_CHECK} tests/engine/test_sweep.py",
    ),
    # optimiser
    Change(
        "the learning-rate schedule begins anew at a resume",
        "run/trainer.py",
        "self._rates.of(epoch)",
        "self._rates.of(epoch - self._first_epoch)",
        INDEPENDENT,
    ),
    Change(
        "clipping counts each part's copy of the weights",
        "run/epoch.py",
        "self._world.gather, stage.counted_weights)",
        "self._world.gather)",
        INDEPENDENT,
    ),
    Change(
        "averages keep the share that the new weights should have",
        "engine/optimizer.py",
        "get_ema_multi_avg_fn(decay)",
        "get_ema_multi_avg_fn(1 - decay)",
        OPTIMIZER,
    ),
    Change(
        "the cosine is stretched over the warm-up too",
        "config/rates.py",
        "max(1, epochs - config.warmup)",
        "max(1, epochs)",
        OPTIMIZER,
    ),
    # resume
    Change(
        "averages begin anew at a resume",
        "engine/optimizer.py",
        "n_averaged.fill_(epochs)",
        "n_averaged.fill_(0)",
        INDEPENDENT,
    ),
    Change(
        "the chunk orders begin anew at a resume",
        "run/trainer.py",
        "[next(self._orders) for _ in range(self._first_epoch)]",
        "[[*range(self._job.plan.num_chunks)]] * self._first_epoch",
        RESUME,
    ),
    Change(
        "rows under way between parts are lost at a resume",
        "engine/boundary.py",
        'self._incoming.copy_(state["incoming"])',
        "pass",
        RESUME,
    ),
    Change(
        "table rows are read from a checkpoint by the wrong permutation",
        "checkpoint/tables.py",
        "place[node_id] = torch.arange(len(node_id))",
        "place = node_id",
        RESUME,
    ),
    Change(
        "rows that are not finite stay under way in a stale halo",
        "engine/layers/layer.py",
        ", *self.rows.boundary.state().values()",
        "",
        NUMBERS,
    ),
    # schedules and orders
    Change(
        "a chunk runs backward before those that read its rows",
        "schedule/actions.py",
        "(True, -action.position)",
        "(True, action.position)",
        SCHEDULE,
    ),
    Change(
        "with lookahead the way back goes through steps in the wrong places",
        "schedule/actions.py",
        'Action("B", step - lag, seams)',
        'Action("B", step - lag, seams[::-1])',
        SCHEDULE,
    ),
    Change(
        "antithetic reverses an order that nobody saw",
        "schedule/staleness.py",
        'order == "antithetic" and epoch % 2',
        'order == "antithetic" and not epoch % 2',
        RULES,
    ),
    # staleness rules
    Change(
        "corrected subtracts last epoch's rows too often",
        "schedule/staleness.py",
        "weight * (1 / fresh - 1), weight)",
        "weight / fresh, weight)",
        RULES,
    ),
    Change(
        "the first snapshot of a freeze comes an epoch late",
        "schedule/staleness.py",
        "(epoch - max(start, 1)) % epochs",
        "(epoch - start) % epochs",
        RULES,
    ),
    Change(
        "dropout masks change each epoch, whatever dropout_hold",
        "engine/masks.py",
        "epoch // self._settings.hold",
        "epoch",
        STALENESS,
    ),
    Change(
        "a reader with lookahead finds one chunk less fresh",
        "schedule/freshness.py",
        "position[None, :] <= position",
        "position[None, :] < position",
        AGES,
    ),
    # tables
    Change(
        "corrected adds what it should subtract",
        "ops/torch.py",
        "sub_(previous",
        "add_(previous",
        STALENESS,
    ),
    Change(
        "a snapshot is taken of dropped rows where history is clean",
        "engine/tables.py",
        "self.snapshot.copy_(self.newest)",
        "self.snapshot.copy_(self.rows)",
        STALENESS,
    ),
    Change(
        "what a weight is fitted to adds up over epochs",
        "engine/tables.py",
        "table.fit.zero_()",
        "pass",
        STALENESS,
    ),
    Change(
        "with lookahead a chunk's own gradient counts as for others",
        "engine/tables.py",
        " or (self.waits and rule.fresh != 1)",
        "",
        f"{STALENESS} {PARTS} -k lookahead",
    ),
    Change(
        "the width of a directed graph is that of one direction",
        "graph/prepare/prepared.py",
        "(reader - owner).abs().max()",
        "(reader - owner).max()",
        f"{LOOKAHEAD} {PARTITION}",
    ),
    # parts and halo
    Change(
        "a boundary node is looked for in the chunk before",
        "graph/cut/halo.py",
        "right=True",
        "right=False",
        f"{PARTS} -k equal_full_graph",
    ),
    Change(
        "halo columns are numbered by id, not as they arrive",
        "engine/chunks.py",
        "ascending[torch.searchsorted(halo[ascending], col[remote])]",
        "torch.searchsorted(halo[ascending], col[remote])",
        PARTS,
    ),
    Change(
        "a row that reads only the first halo row is no border row",
        "engine/chunks.py",
        "rows.col >= num_own",
        "rows.col > num_own",
        f"{PARTS} tests/engine/test_overlap.py tests/engine/test_chunk_cut.py",
    ),
    # wire
    Change(
        "int8 steps go up to 128",
        "comm/wire.py",
        "_MOST = 127",
        "_MOST = 128",
        BOUNDARIES,
    ),
    Change(
        "rounding at random rounds down a little more often",
        "comm/wire.py",
        "(noise.float() + 0.5) / 256",
        "noise.float() / 256",
        BOUNDARIES,
    ),
    # dropout, loss
    Change(
        "kept entries are scaled as if one byte fewer was kept",
        "ops/hashing.py",
        "RESOLUTION / (RESOLUTION - self.threshold)",
        "RESOLUTION / (RESOLUTION - 1 - self.threshold)",
        DROPOUT,
    ),
    Change(
        "the loss is a mean over the chunk's training nodes",
        "nn/loss.py",
        "gradient = gradient.div_(self.divisor)",
        "gradient = gradient.div_(max(len(rows), 1))",
        STALENESS,
    ),
    # layers whose gradients are pushed
    Change(
        "pushes that come too late are read twice",
        "engine/layers/push.py",
        "        rows[data.chunk.start : data.chunk.stop] = 0\n",
        "",
        PUSH,
    ),
    Change(
        "a tile's own rows are not pushed to",
        "engine/layers/push.py",
        "            self.rows[start : start + len(own)] += own\n",
        "            pass\n",
        PUSH,
    ),
    Change(
        "random layers draw other numbers on the way back",
        "nn/blocks/runner.py",
        "torch.manual_seed((saved.drop.key + ",
        "torch.manual_seed((saved.drop.key + torch.is_grad_enabled() + ",
        PUSH,
    ),
    # splits, partition, chunks
    Change(
        "a split leaves a node out",
        "graph/splits.py",
        "order[train : train + val]",
        "order[train : train + val - 1]",
        SPLITS,
    ),
    Change(
        "work of a node counts the edges of one direction only",
        "graph/cut/partition.py",
        "row_cost + (in_degree + out_degree) / 2",
        "row_cost + in_degree",
        PARTITION,
    ),
    Change(
        "messages are counted from reader to owner",
        "graph/prepare/prepared.py",
        "(across * num_chunks + reader % num_chunks) * num_chunks + owner % num_chunks",
        "(across * num_chunks + owner % num_chunks) * num_chunks + reader % num_chunks",
        f"{PARTITION} {AGES}",
    ),
    # exact lookahead over parts, reversible blocks
    Change(
        "strips of a line all run the same way",
        "graph/cut/locality.py",
        "np.where(part % 2 == 0, place, num_chunks - 1 - place)",
        "place",
        f"{LOOKAHEAD} -k strips",
    ),
    Change(
        "what a reversible layer has added is not taken off on the way back",
        "nn/layers/wrappers/coupling.py",
        "self.layer.own(h).sub_(added)",
        "self.layer.own(h)",
        REVERSIBLE,
    ),
)
