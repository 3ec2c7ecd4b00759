"""Predictions and hidden rows of a run, over processes of our own or those that torchrun has started.

this process   prepare the graph --------------> ranks: a sweep, each part's rows to a file
               rows in the graph's own order <-- part-0 | part-1 | ...
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from gnnpipe.comm.launch import launch_local, warm_up
from gnnpipe.comm.world import World, choose_device, launched_by_torchrun
from gnnpipe.errors import ConfigError, GnnpipeError, TrainingError, UserError
from gnnpipe.files.reading import read_json
from gnnpipe.files.scratch import scratch_folder
from gnnpipe.files.spool import copied_rows, large_array, map_rows
from gnnpipe.graph.cut.halo import part_range
from gnnpipe.graph.prepare.prepared import PreparedGraph
from gnnpipe.nn.models import build_stack
from gnnpipe.run.answers.questions import Request, prepare
from gnnpipe.run.answers.rank import Question, answer_in, answer_rank
from gnnpipe.run.answers.results import Answers
from gnnpipe.run.rank import joined
from gnnpipe.run.reporter import Reporter
from gnnpipe.run.torchrun import check_size, let_rank_0_speak

# Rows that are put in order at once.
_ROWS = 1 << 14


def answer(request: Request, reporter: Reporter) -> Answers:
    """Answer a request; `Predictions`, or `Embeddings` if hidden rows are wanted.

    Raises:
        UserError: the run has no weights, or the graph does not fit it.
        TrainingError: a rank failed, or numbers are not finite.
        StoppedError: a signal told this process to end.
    """
    return _under_torchrun(request, reporter) if launched_by_torchrun() else _here(request, reporter)


def _here(request: Request, reporter: Reporter) -> Answers:
    """Start ranks on this host."""
    choose_device(request.config.device, request.config.num_ranks)  # refuses one that is not there
    with ExitStack() as held_until:
        scratch = held_until.enter_context(scratch_folder())
        warm_up(answer_rank)
        question, blank = prepare(request, scratch, held_until, reporter)
        with reporter.step(_words(request)):
            launch_local(answer_rank, (question,), question.plan.num_ranks, ending="nothing is written")
            answers = _completed(question, blank)
        _save(answers, request, reporter)
        return answers


def _under_torchrun(request: Request, reporter: Reporter) -> Answers:
    """Be one of the ranks that torchrun has started here. Each gets all answers, and rank 0 writes them.

    Raises:
        GnnpipeError: as `answer`. Where all ranks raise the same one, rank 0 prints it.
    """
    rank, everyones = int(os.environ["RANK"]), True
    try:
        check_size(request.config)
        _check_one_host()
        with ExitStack() as held_until:
            scratch = held_until.enter_context(scratch_folder())
            everyones = False  # joining may fail for one rank alone
            world = held_until.enter_context(joined(request.config, None))
            everyones = True
            question, blank = _shared(request, world, scratch, held_until, reporter)
            answer_in(question, world)
            answers = _completed(question, blank)
            if rank == 0:
                _save(answers, request, reporter)
            world.gather(None)  # a barrier: the files of rank 0 are read until here, and its answers written
            return answers
    except GnnpipeError as error:
        if rank and everyones:
            let_rank_0_speak(error, reporter)
        raise


def _check_one_host() -> None:
    local, size = int(os.environ.get("LOCAL_WORLD_SIZE", "0")), int(os.environ["WORLD_SIZE"])
    if local != size:
        raise ConfigError(
            f"predict: {local} of {size} processes are on this host, and the rows of all parts are put "
            "together on one; start it on one host, with other --stages and --parts if need be"
        )


def _shared(
    request: Request, world: World, scratch: Path, held_until: ExitStack, reporter: Reporter
) -> tuple[Question, Answers]:
    """Prepare the question on rank 0 and hand it to all ranks; an error there is raised on all."""
    found: tuple[Question, Answers] | None = None
    failure: UserError | None = None
    if world.rank == 0:
        try:
            found = prepare(request, scratch, held_until, reporter)
        except UserError as error:
            failure = error
    found, failure = world.gather((found, failure))[0]
    if found is None:
        raise failure or ConfigError("predict: rank 0 has prepared nothing")
    return found


def _words(request: Request) -> str:
    return "predicting" if request.layer is None else "computing hidden rows"


def _save(answers: Answers, request: Request, reporter: Reporter) -> None:
    if request.out is not None:
        with reporter.step(f"writing {request.out.name}"):
            answers.save(request.out)


def _completed(question: Question, blank: Answers) -> Answers:
    """The answers with their rows, which the ranks have left in files."""
    peaks = [read_json(question.peak_of(rank))["bytes"] for rank in range(question.plan.num_ranks)]
    return blank.with_rows(_in_order(question, blank.nodes), tuple(peaks))


def _in_order(question: Question, nodes: np.ndarray) -> np.ndarray:
    """The rows of the wanted nodes, float32, from the files of all parts.

        # parts of ranks   node 2 0 | 4 1 3
        # wanted           node 4 2            place of nodes 0 to 4 among them: -1 -1 0 -1 1
        # in order         node 2 4            result: node 4 2

    Raises:
        TrainingError: a number is not finite.
    """
    prepared = PreparedGraph.load(question.graph)
    wanted, place = np.unique(nodes), np.full(prepared.facts.num_nodes, -1)
    place[wanted] = np.arange(len(wanted))
    width, node_id = _width(question), prepared.node_id.numpy()
    result = large_array(np.float32, (len(wanted), width))
    for part in range(len(prepared.ranges)):
        span = part_range(prepared.ranges, part)
        rows = map_rows(question.rows_of(part), np.float32, (span.num_nodes, width))
        for start, block in copied_rows(rows, _ROWS):
            ids = node_id[span.start + start : span.start + start + len(block)]
            _check_finite(block, ids)
            places = place[ids]
            result[places[places >= 0]] = block[places >= 0]
    # as they were asked for, perhaps twice
    return result if np.array_equal(wanted, nodes) else result[place[nodes]]


def _width(question: Question) -> int:
    """Columns of the wanted rows."""
    with torch.device("meta"):
        return build_stack(question.spec)[question.layer]().out_features


def _check_finite(block: np.ndarray, ids: np.ndarray) -> None:
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        raise TrainingError(
            f"the model's numbers of node {ids[bad].min()} are not finite; are its features of the size that "
            "the run was trained on?"
        )
