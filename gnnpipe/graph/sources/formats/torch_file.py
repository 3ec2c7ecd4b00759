"""``.pt`` files with a torch_geometric Data or with tensors by name; nothing in them is called.

A file of ``InMemoryDataset`` (processed/data.pt) is read as well, if it holds one graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnpipe.errors import DataError, shown
from gnnpipe.files.foreign import read_tensors
from gnnpipe.graph.sources.formats.named import graph_of_names
from gnnpipe.graph.sources.raw import RawGraph
from gnnpipe.system.steps import Say

LOOKS_FOR = "a .pt file with a torch_geometric Data, or with a dict of tensors"
HETERO = (
    "it holds a HeteroData, with several kinds of nodes; make it homogeneous first: data = "
    "torch.load(FILE, weights_only=False).to_homogeneous(); torch.save(data, 'graph.pt')"
)
RESAVE = (
    "save the tensors alone: data = torch.load(FILE, weights_only=False); "
    "torch.save(data.to_dict(), 'graph.pt')"
)


def read(path: Path, scratch: Path, say: Say) -> RawGraph:
    """The graph of a ``.pt`` file.

    Raises:
        DataError: it holds several graphs, kinds of nodes, or no edges; or it can't be loaded safely.
        OSError: the file can't be read.
    """
    try:
        content = read_tensors(path)
    except ValueError as error:
        what = HETERO if "HeteroData" in str(error) else f"{error}; {RESAVE}"
        raise DataError(f"{shown(path.name)}: {what}") from None
    arrays = _arrays(content, shown(path.name))
    say(f"{shown(path.name)}: tensors ({shown(', '.join(map(str, arrays)))})")
    return graph_of_names(arrays, shown(path.name))


def _arrays(content: Any, where: str) -> Mapping[str, Any]:
    """Tensors by name from an object of the kinds that are read."""
    import torch_geometric.data as pyg

    content = _only_graph(content, where)
    if isinstance(content, pyg.HeteroData):
        raise DataError(f"{where}: {HETERO}")
    if isinstance(content, pyg.Data):
        content = content.to_dict()
    if not isinstance(content, dict):
        raise DataError(f"{where}: it holds a {type(content).__name__}; {LOOKS_FOR} is needed")
    if any(isinstance(value, dict) for value in content.values()):  # HeteroData.to_dict()
        raise DataError(f"{where}: {HETERO}")
    return {str(key): value for key, value in content.items() if value is not None}


def _only_graph(content: Any, where: str) -> Any:
    """The first entry of a list, as InMemoryDataset saves one; raises DataError for several graphs."""
    import torch_geometric.data as pyg

    while isinstance(content, list | tuple) and content:
        # InMemoryDataset saves (data, slices, class); slices say where each of several graphs begins
        if len(content) == 3 and isinstance(content[1], dict) and _num_graphs(content[1]) > 1:
            raise DataError(f"{where}: it holds {_num_graphs(content[1])} graphs, and one is needed")
        if all(isinstance(entry, pyg.Data) for entry in content) and len(content) > 1:
            raise DataError(f"{where}: it holds {len(content)} graphs, and one is needed")
        content = content[0]
    return content


def _num_graphs(slices: dict[Any, Any]) -> int:
    sizes = [len(value) - 1 for value in slices.values() if isinstance(value, Tensor) and value.dim() == 1]
    return max(sizes, default=1)
