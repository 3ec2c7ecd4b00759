"""The self-test of a convolution: chunk by chunk it must give what it gives on the whole graph.

    # a random graph of 50 nodes in three chunks
    # whole        conv(x, edges)                       output rows, gradients of x and of weights
    # in chunks    pair or square on each chunk         the same, or the form is wrong

It runs a copy of the user's own convolution, on the CPU: dropout inside it is set to 0, weights are moved a
little, as those that begin at 0 hide what they multiply, and batch norms normalise by random constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.conv.call import Call, Refused
from gnnpipe.nn.conv.form import FORMS, Form, on_block
from gnnpipe.nn.conv.probe import aside, quoted
from gnnpipe.nn.conv.sample import CHUNKS, NUM_NODES, EdgeKinds, Sample, sample
from gnnpipe.nn.conv.still import counting, still

# Largest difference, as a share of the largest number: convolutions that make float32 tensors of their own
# can't be run in float64.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True)
class Subject:
    """A convolution, and how it is to be called."""

    conv: nn.Module
    call: Call
    in_features: int
    kinds: EdgeKinds
    edges: Normalization
    """Adjacency that it is given."""


@dataclass(frozen=True)
class Failure:
    """Why a form is wrong."""

    text: str
    counts: bool = False
    """Whether a batch norm would have counted rows more than once."""


@dataclass(frozen=True)
class Trial:
    """A graph and the mode to run in."""

    graph: Sample
    training: bool
    seed: int


@dataclass(frozen=True)
class Answer:
    """Output and gradients of a convolution on a graph."""

    out: Tensor
    gradients: list[Tensor]
    """Of the input rows, then of the weights."""
    counted: list[int]
    """Rows that each batch norm inside has seen."""


def trials(kinds: EdgeKinds, edges: Normalization) -> list[Trial]:
    """The tries of a self-test."""
    graphs = [sample(kinds, 0), sample(kinds, 1, last_is_quiet=True), sample(kinds, 2)]
    modes = (True, True, False)
    return [
        Trial(graph.normalized(edges), training, seed)
        for seed, (graph, training) in enumerate(zip(graphs, modes, strict=True))
    ]


def failures(subject: Subject) -> dict[Form, Failure]:
    """The forms that are wrong, up to the first that is right.

    Raises:
        Refused: there is nothing to compare with: the convolution fails on the whole graph, has no gradient
            for its input, or is random with dropout off.
    """
    with aside():
        tries = trials(subject.kinds, subject.edges)
        wholes, dtype = _wholes(subject, tries)
        _check_not_random(subject, tries[0], dtype)
        found: dict[Form, Failure] = {}
        for form in FORMS:
            wrong = (
                _failure(subject, form, trial, expected, dtype)
                for trial, expected in zip(tries, wholes, strict=True)
            )
            failure = next((failure for failure in wrong if failure is not None), None)
            if failure is None:
                break
            found[form] = failure
        return found


def right_form(found: dict[Form, Failure]) -> Form | None:
    """The first form that is not wrong."""
    return next((form for form in FORMS if form not in found), None)


def whole(subject: Subject, trial: Trial, dtype: torch.dtype) -> Answer:
    """Run a copy on a whole graph, as torch_geometric does."""
    conv, x = _copy(subject, trial, dtype), random_rows(subject.in_features, trial.seed, dtype)
    graph = trial.graph.to(dtype)

    def run() -> Tensor:
        return subject.call(conv, x, graph.edge_index, graph, (NUM_NODES, NUM_NODES))

    return answer_of(conv, x, run)


def in_chunks(subject: Subject, form: Form, trial: Trial, dtype: torch.dtype) -> Answer:
    """Run a copy chunk by chunk."""
    conv, x = _copy(subject, trial, dtype), random_rows(subject.in_features, trial.seed, dtype)
    edges = trial.graph.to(dtype).edges

    def run() -> Tensor:
        outs = []
        for start, stop in CHUNKS:
            block = edges.rows(start, stop).block
            out = on_block(form, conv, subject.call, x[block.referenced], x[start:stop], block)
            if len(out) != stop - start:
                raise ValueError(f"it made {len(out)} rows for a chunk of {stop - start}")
            outs.append(out)
        return torch.cat(outs)

    return answer_of(conv, x, run)


def random_rows(in_features: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Input rows, a leaf."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(NUM_NODES, in_features, generator=g, dtype=torch.float64)
    return rows.to(dtype).requires_grad_()


def _copy(subject: Subject, trial: Trial, dtype: torch.dtype) -> nn.Module:
    """The copy that a trial runs: for one trial always the same."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(trial.seed)
        return still(subject.conv, dtype, training=trial.training)


def differ(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors are not the same to within what rounding does; ``b`` is right."""
    if a.shape != b.shape:
        return True
    scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
    # written so that a number that is none differs
    return bool(b.numel()) and not float((a - b).abs().max()) <= TOLERANCE[dtype] * scale


def _wholes(subject: Subject, tries: list[Trial]) -> tuple[list[Answer], torch.dtype]:
    """Answers on the whole graphs, in float64 if the convolution runs in that; raises Refused if it never
    runs."""
    try:
        return [whole(subject, trial, torch.float64) for trial in tries], torch.float64
    except Refused:
        raise
    except Exception:
        try:
            return [whole(subject, trial, torch.float32) for trial in tries], torch.float32
        except Exception as error:
            raise Refused(f"it fails on a whole graph: {quoted(error)}{_hint(subject)}") from error


def _hint(subject: Subject) -> str:
    """The likely reason why it fails, where edges lack something or have it."""
    call, kinds = subject.call, subject.kinds
    if "edge_type" in call.takes and not kinds.num_types:
        return "; it takes edge_type, and edges of this graph have no types"
    if "edge_attr" in call.takes and not kinds.edge_dim:
        return "; it takes edge_attr, and edges of this graph have no features"
    if "edge_type" in call.takes and subject.edges in ("gcn", "loops"):
        return f"; self loops that are added have a type of their own: it needs {kinds.num_types + 1} types"
    if "edge_attr" in call.takes:
        return f"; edges of this graph have {kinds.edge_dim} features: is it built for as many?"
    return ""


def _check_not_random(subject: Subject, trial: Trial, dtype: torch.dtype) -> None:
    first, again = whole(subject, trial, dtype), _seeded_whole(subject, trial, dtype)
    if differ(again.out, first.out, dtype):
        raise Refused(
            "its output is random with all dropout inside it set to 0, so that it can't be compared with the "
            "whole graph's; if it has dropout of its own, keep its rate in an attribute called dropout, or "
            "use nn.Dropout"
        )


def _seeded_whole(subject: Subject, trial: Trial, dtype: torch.dtype) -> Answer:
    with aside(seed=1):
        return whole(subject, trial, dtype)


def _failure(
    subject: Subject, form: Form, trial: Trial, expected: Answer, dtype: torch.dtype
) -> Failure | None:
    try:
        answer = in_chunks(subject, form, trial, dtype)
    except Exception as error:
        return Failure(f"{form}: {quoted(error)}")
    if differ(answer.out, expected.out, dtype):
        return Failure(f"{form}: output rows of a chunk are not those of the whole graph")
    for ours, theirs in zip(answer.gradients, expected.gradients, strict=True):
        if differ(ours, theirs, dtype):
            return Failure(f"{form}: gradients are not those of the whole graph")
    if answer.counted != expected.counted:
        return Failure(f"{form}: batch norm", counts=True)
    return None


def answer_of(conv: nn.Module, x: Tensor, run: Callable[[], Tensor]) -> Answer:
    """Run a copy, and differentiate it; raises Refused if its output has no gradient."""
    with counting(conv) as counted:
        out = run()
    if not isinstance(out, Tensor) or not out.requires_grad:
        raise Refused("its output has no gradient for its input rows")
    g = torch.Generator().manual_seed(len(out))
    direction = torch.randn(out.shape, generator=g, dtype=torch.float64).to(out.dtype)
    leaves = [x, *(weight for weight in conv.parameters() if weight.requires_grad)]
    found = torch.autograd.grad(out, leaves, direction, allow_unused=True)
    if found[0] is None:
        raise Refused("its output has no gradient for its input rows")
    gradients = [torch.zeros_like(a) if b is None else b for a, b in zip(leaves, found, strict=True)]
    return Answer(out.detach(), gradients, counted)
