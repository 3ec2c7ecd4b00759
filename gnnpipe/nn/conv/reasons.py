"""Why a convolution can't be run chunk by chunk, and what helps: found by trying, not by its class.

1. a cure        a setting of the convolution, and an adjacency made for it, with which the test passes
2. a behaviour   rows that it reads further away, or edges into other nodes that it depends on
3. otherwise     how each form failed
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gnnpipe.graph.prepare.normalize import Normalization
from gnnpipe.nn.conv.call import Refused
from gnnpipe.nn.conv.form import FORMS, Form
from gnnpipe.nn.conv.probe import aside, quoted
from gnnpipe.nn.conv.sample import NUM_NODES, Sample, sample
from gnnpipe.nn.conv.selftest import Failure, Subject, Trial, differ, failures, right_form, whole
from gnnpipe.nn.conv.still import still

# Rows whose change is followed.
ROWS_TRIED = 6
# Least change of an output that is not rounding.
CHANGE = 1e-4
OTHER = "use another convolution, or write a BlockLayer"


@dataclass(frozen=True)
class Cure:
    """Settings with which a convolution passes the self-test."""

    off: tuple[str, ...]
    """Settings to be set to False."""
    owner: str
    """Class that has the first of them: the convolution's, or that of one inside."""
    edges: Normalization
    same: bool
    """Whether it then computes what it does now."""

    def text(self, given: Normalization) -> str:
        """The code to write instead."""
        settings = ", ".join(f"{setting}=False" for setting in self.off)
        wrapper = f' in Conv(..., edges="{self.edges}")' if self.edges != given else ""
        result = "computes the same" if self.same else "is accepted, but computes another function"
        return f"{self.owner}(..., {settings}){wrapper} {result}"


def reason(subject: Subject, found: dict[Form, Failure]) -> str:
    """Why no form is right, and what helps."""
    with aside():
        cure = _cure(subject)
        if cure is not None and cure.same:
            return f"{_cause(subject, cure)}; {cure.text(subject.edges)}"
        if any(failure.counts for failure in found.values()):
            return (
                "its batch norm would count rows of neighbours once for each chunk that reads them; use "
                "LayerNorm inside, or batch norm behind it (norm=)"
            )
        cause, advice = _behaviour(subject) or ("; ".join(found[form].text for form in FORMS), OTHER)
        return f"{cause}; {advice if cure is None else cure.text(subject.edges)}"


def _cause(subject: Subject, cure: Cure) -> str:
    if "normalize" in cure.off:
        return "it normalises edges by numbers of edges of their sources, which a chunk does not have"
    if "cached" in cure.off:
        return "it keeps the edges of the first chunk for all others"
    return "it adds self loops where a chunk has rows of other nodes"


def _cure(subject: Subject) -> Cure | None:
    """The first settings that help, preferably those that change nothing."""
    accepted = [cure for cure in _cures(subject) if cure is not None]
    return next((cure for cure in accepted if cure.same), accepted[0] if accepted else None)


def _cures(subject: Subject) -> Iterator[Cure | None]:
    cached = _on(subject.conv, ("cached",))
    loops, weights = (
        _on(subject.conv, ("add_self_loops",)),
        _on(subject.conv, ("normalize", "add_self_loops")),
    )
    if cached:
        yield _tried(subject, cached, subject.edges)
    if loops:
        yield _tried(subject, (*cached, *loops), "loops")
    if "normalize" in weights:
        yield _tried(subject, (*cached, *weights), "gcn")


def _on(conv: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those settings that are True in the convolution or a module inside it."""
    return tuple(name for name in names if any(vars(m).get(name) is True for m in conv.modules()))


def _tried(subject: Subject, off: tuple[str, ...], edges: Normalization) -> Cure | None:
    conv = copy.deepcopy(subject.conv)
    for module in conv.modules():
        for name in off:
            if vars(module).get(name) is True:
                setattr(module, name, False)
    cured = replace(subject, conv=conv, edges=edges)
    try:
        if right_form(failures(cured)) is None:
            return None
        return Cure(_said(off), _owner(subject.conv, off[-1]), edges, _same(subject, cured))
    except Refused:
        return None


def _said(off: tuple[str, ...]) -> tuple[str, ...]:
    """Settings to be written: classes that are told not to normalise add no loops either."""
    return tuple(name for name in off if name != "add_self_loops") if "normalize" in off else off


def _owner(conv: nn.Module, setting: str) -> str:
    """Class of the outermost module that has a setting."""
    return next(type(module).__name__ for module in conv.modules() if vars(module).get(setting) is True)


def _same(subject: Subject, cured: Subject) -> bool:
    """Whether the cured convolution makes of its adjacency what the other one makes of the graph as it is."""
    for graph in (sample(subject.kinds, 0), sample(subject.kinds, 1, last_is_quiet=True)):
        now, then = (
            whole(one, Trial(graph.normalized(one.edges), True, 0), torch.float64) for one in (subject, cured)
        )
        if differ(then.out, now.out, torch.float64):
            return False
    return True


def _behaviour(subject: Subject) -> tuple[str, str] | None:
    """How the output depends on what a chunk does not have, and what to do; None if it does not."""
    graph = sample(subject.kinds, 0).normalized(subject.edges)
    try:
        return _far_rows(subject, graph) or _far_edges(subject, graph)
    except Exception as error:
        return f"it fails on a graph with fewer edges: {quoted(error)}", OTHER


def _far_rows(subject: Subject, graph: Sample) -> tuple[str, str] | None:
    """Whether rows matter that no edge into a node comes from."""
    conv = still(subject.conv, torch.float32, training=False)
    near = torch.eye(NUM_NODES, dtype=torch.bool)
    near[graph.edge_index[1], graph.edge_index[0]] = True
    rows = torch.randn(NUM_NODES, subject.in_features)
    out = _run(subject, conv, rows, graph)
    far = torch.zeros_like(near)
    for node in range(0, NUM_NODES, NUM_NODES // ROWS_TRIED):
        other = rows.clone()
        other[node] = torch.randn(subject.in_features)
        changed = (_run(subject, conv, other, graph) - out).abs().amax(dim=1) > CHANGE
        far[:, node] = changed & ~near[:, node]
    if not far.any():
        return None
    if not (far & ~near.t()).any():
        return "it follows edges backwards too, and a chunk has those that lead to its nodes", OTHER
    if not (far & ~_reached(near)).any():
        return (
            "it takes several hops at once, and a chunk has the rows of one",
            "list it as several layers of one hop each",
        )
    return "its output depends on rows that no path of edges leads from: it reads the whole graph", OTHER


def _reached(near: Tensor) -> Tensor:
    """Pairs of nodes that a path of edges joins, bool ``[target, source]``."""
    for _ in range(NUM_NODES.bit_length()):
        near = (near.float() @ near.float()) > 0
    return near


def _far_edges(subject: Subject, graph: Sample) -> tuple[str, str] | None:
    """Whether edges into other nodes matter."""
    conv = still(subject.conv, torch.float32, training=False)
    rows = torch.randn(NUM_NODES, subject.in_features)
    out = _run(subject, conv, rows, graph)
    for node in range(NUM_NODES):
        fewer = graph.picked(graph.edge_index[1] != node)
        if fewer.weight.numel() == graph.weight.numel():
            continue
        changed = (_run(subject, conv, rows, fewer) - out).abs().amax(dim=1) > CHANGE
        changed[node] = False
        if changed.any():
            return (
                "its output depends on edges into other nodes (it may divide by their numbers, or pad to the "
                "largest), which a chunk does not have",
                OTHER,
            )
    return None


@torch.no_grad()
def _run(subject: Subject, conv: nn.Module, rows: Tensor, graph: Sample) -> Tensor:
    """Output rows of a whole graph."""
    return subject.call(conv, rows, graph.edge_index, graph.to(torch.float32), (NUM_NODES, NUM_NODES))
