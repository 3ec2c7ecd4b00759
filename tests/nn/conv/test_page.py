"""docs/layers.md: its table is what the script prints, and its own layer does what it says."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from gnnpipe.nn.blocks.block import BlockLayer
from scripts import convolutions
from tests.nn.conv.graphs import NUM_NODES, in_chunks, plain_graph, results

PAGE = (Path(__file__).parents[3] / "docs" / "layers.md").read_text()


def rows_of(text: str) -> dict[str, str]:
    return {
        row.split("|")[1].strip(): row
        for row in text.splitlines()
        if re.match(r"\| \w+ \| (pair|squ|ref|not)", row)
    }


@pytest.mark.parametrize("name", ["GCNConv", "GATConv", "SAGEConv", "TAGConv", "PointNetConv", "DirGNNConv"])
def test_rows_of_the_table(name: str) -> None:
    printed = "\n".join(convolutions.table([convolutions.verdict(name)]))
    assert rows_of(printed)[name] == rows_of(PAGE)[name]


@pytest.mark.slow
def test_the_table_is_what_the_script_prints(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["convolutions.py"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SplineConv on CPUs
        convolutions.main()
    printed = capsys.readouterr().out
    assert rows_of(printed) == rows_of(PAGE)
    assert printed.splitlines()[0] in PAGE


def test_every_class_has_a_row() -> None:
    assert rows_of(PAGE).keys() == set(convolutions.convolutions.__all__) - {"MessagePassing"}


def test_the_layer_of_the_page() -> None:
    """Its formula, written down node by node, in one piece and in chunks."""
    block = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block.group(1), names)
    torch.manual_seed(0)
    layer: BlockLayer = names["LargestDifference"](5, 4).double()
    graph, x = plain_graph(0, 1, 1), torch.randn(NUM_NODES, 5, dtype=torch.float64)

    def other(row: torch.Tensor) -> torch.Tensor:
        return layer.other(row)  # type: ignore[operator, no-any-return]

    def slowly(rows: torch.Tensor) -> torch.Tensor:
        outs = []
        for node in range(NUM_NODES):
            into = (graph.edge_index[1] == node).nonzero().view(-1).tolist()
            differences = [
                graph.edge_weight[edge] * (other(rows[graph.edge_index[0, edge]]) - other(rows[node]))
                for edge in into
            ]
            largest = torch.stack(differences).amax(dim=0) if differences else torch.zeros(4).double()
            outs.append((layer.own(rows[node]) + largest).clamp(min=0))  # type: ignore[operator]
        return torch.stack(outs)

    expected = results(layer, slowly, x)
    for cuts in ([], [1, 14, 29]):
        ours = results(layer, lambda rows, cuts=cuts: in_chunks(layer, rows, graph.edges, cuts), x)
        torch.testing.assert_close(ours, expected)
