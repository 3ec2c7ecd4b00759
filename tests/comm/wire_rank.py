"""One rank of test_wire: train on a host of its own, and note what was counted and what was sent.

python -m tests.comm.wire_rank FOLDER STAGES PIECES RANK
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.namespaces import bytes_on_the_wire
from gnnpipe.comm.groups import make_links
from gnnpipe.config.run import SyntheticConfig
from gnnpipe.graph.sources.synthetic import planted_partition
from gnnpipe.schedule.staleness import chunk_orders
from tests.harness import CPU, Case, make_engine, make_stage

# what barriers and connections that are kept alive may add to a rank's own count
SMALL_TALK = 64 * 2**10


def main(folder: Path, stages: int, parts: int, rank: int) -> None:
    torch.set_num_threads(1)
    limit = timedelta(seconds=60)
    size = stages * parts
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
    data = planted_partition(SyntheticConfig(num_nodes=4000, avg_degree=8, homophily=0.9))
    chunks = 4 if stages > 1 else 1
    case = Case(data, "gcnii", layers=8, hidden=128, chunks=chunks, parts=parts)
    links = make_links(CPU, stages, parts, limit)
    stage = make_stage(case, stages, rank, links=links)
    engine, messages = make_engine(case, stage, links)
    messages.connect()
    orders = chunk_orders("shuffled", case.chunks, 0)
    engine.run_epoch(0, next(orders))  # connections are made when they are first used
    links.take_bytes()
    dist.barrier()
    before = bytes_on_the_wire()
    for epoch in (1, 2):
        engine.run_epoch(epoch, next(orders))
    dist.barrier()
    sent, counted = bytes_on_the_wire() - before, links.take_bytes()
    result = {
        "on_the_wire": sent, "counted": counted, "total": sum(counted.values()), "small_talk": SMALL_TALK,
    }  # fmt: skip
    (folder / f"rank-{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
