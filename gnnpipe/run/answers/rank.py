"""One rank of a prediction: it sweeps its stage, and writes the wanted rows of its part to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gnnpipe.comm.place import Place
from gnnpipe.comm.stage_links import Messages
from gnnpipe.comm.world import World
from gnnpipe.config.resolved import Resolved
from gnnpipe.engine.masks import DropoutSettings
from gnnpipe.engine.stage import Stage
from gnnpipe.engine.sweep import sweep
from gnnpipe.engine.tables import TableSettings
from gnnpipe.files.spool import Spool
from gnnpipe.files.typed_json import json_text
from gnnpipe.files.writing import write_file
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.models import ModelSpec
from gnnpipe.run.answers.trained import load_weights
from gnnpipe.run.rank import joined
from gnnpipe.schedule.plan import Plan
from gnnpipe.system.memory import peak_memory_bytes


@dataclass(frozen=True)
class Question:
    """A prediction that is ready to start. All ranks get the same one."""

    config: Resolved
    """Settings of the run, with the processes, the device and the graph of the prediction."""
    plan: Plan
    spec: ModelSpec
    graph: Path
    """File of the prepared graph."""
    weights: Path
    """File of the run's weights."""
    rows: Path
    """Folder for the rows of each part."""
    layer: int
    """Number of the layer whose output rows are wanted; the last one's are logits."""

    def rows_of(self, part: int) -> Path:
        """The file of a part's rows: float32, in the order of the prepared graph."""
        return self.rows / f"part-{part}"

    def peak_of(self, rank: int) -> Path:
        """The file that says how much memory a rank took."""
        return self.rows / f"peak-{rank}"


def answer_rank(question: Question, store: str) -> None:
    """Main function of a process that our launcher has started; see `launch_local` for ``store``."""
    with joined(question.config, store) as world:
        answer_in(question, world)


def answer_in(question: Question, world: World) -> None:
    """Write this rank's share of the rows; returns when all ranks have written theirs."""
    # rows leave for the file chunk by chunk, so that no rank ever holds those of another part
    stage = _stage(question, world)
    load_weights(stage, question.weights)
    messages = Messages(stage.place, world.device, world.links)
    messages.connect()
    spool: Spool | None = None
    with messages.first_time("a prediction"):
        for _, rows in sweep(stage, messages, until=question.layer):
            block = rows.cpu().numpy()
            spool = spool or Spool(question.rows_of(stage.place.part), np.float32, block.shape[1])
            spool.append(block)
    if spool is not None:
        spool.close()
    write_file(question.peak_of(world.rank), json_text({"bytes": peak_memory_bytes(world.device)}))
    world.gather(None)  # a barrier


def _stage(question: Question, world: World) -> Stage:
    """The layers of this rank, without what training would need."""
    config, plan = question.config, question.plan
    return Stage(
        Place.of_rank(world.rank, plan.num_stages, plan.num_parts),
        plan,
        question.spec,
        PreparedGraph.load(question.graph).forward_alone(),
        TableSettings.of(config.staleness, plan, config.halo),
        DropoutSettings(0.0, config.seed, 1),
        world.device,
        world.links,
        trains=False,
    )
