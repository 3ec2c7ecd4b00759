"""Safe loading for data set classes of torch_geometric, which open and unpickle files themselves.

They fall back to unsafe unpickling (`torch_geometric.io.fs.torch_load`), ask for it (``weights_only=False``),
or use `pickle` itself (Planetoid's files). While `safely` lasts, each of these ways leads to a function of
this module:

    torch.load, torch_geometric.io.fs.torch_load   `_safe_torch_load`: tensors and listed types only
    numpy.load                                     `_safe_array_load`: never objects but lists of nodes
    pickle.load, pickle.loads                      `PlainUnpickler`: arrays and plain containers only
    pickle.Unpickler                               refused
"""

from __future__ import annotations

import copyreg
import io
import math
import os
import pickle
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from gnnpipe.errors import shown
from gnnpipe.files.arrays import OBJECTS, check_arrays, check_memory, checked_zip, read_header
from gnnpipe.files.reading import open_file


class _Array:
    """Stand-in for `numpy.ndarray`, which a pickle names but must not call: a call could fill the memory."""


def _empty_array(kind: Any, shape: Any, dtype: Any) -> Any:
    """Make the empty array that a pickle of NumPy begins with.

    Its shape and content follow in the pickle, and NumPy checks that they agree.
    """
    if kind is not _Array or tuple(shape) != (0,):
        raise pickle.UnpicklingError("an array is not made as numpy's pickles make theirs")
    return np.empty(0, np.uint8)


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    """Decode bytes from the text form that Python 3 pickles them in for Python 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding '{shown(encoding, 40)}' are not read")
    return text.encode("latin1")


def _scalar(dtype: Any, content: Any) -> Any:
    return np.frombuffer(_bytes(content) if isinstance(content, str) else content, dtype)[0]


# All globals that pickles of arrays, sparse matrices and plain containers name. `_RENAMED` leads the names of
# other versions of Python, NumPy and SciPy to these.
PLAIN: dict[str, Any] = {
    "builtins.list": list,
    "builtins.dict": dict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.object": object,
    "collections.defaultdict": defaultdict,
    "collections.OrderedDict": OrderedDict,
    "copyreg._reconstructor": copyreg._reconstructor,  # type: ignore[attr-defined]
    "_codecs.encode": _bytes,
    "numpy.ndarray": _Array,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.multiarray.scalar": _scalar,
    "scipy.sparse.csr.csr_matrix": sp.csr_matrix,
}
_RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "scipy.sparse._csr": "scipy.sparse.csr",
}


def _not_run(name: str) -> str:
    return f"it names '{shown(name, 80)}', which is not unpickled, as it could run anything"


class PlainUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays, SciPy's CSR matrices and plain containers; any other global is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Called for each global that a pickle names, before it can be called."""
        wanted = f"{_RENAMED.get(module, module)}.{name}"
        if wanted not in PLAIN:
            raise pickle.UnpicklingError(_not_run(wanted))
        return PLAIN[wanted]


def _load_pickle(file: IO[bytes], **options: Any) -> Any:
    """Replacement of `pickle.load`."""
    text = {key: options[key] for key in ("encoding", "errors") if key in options}
    content = file.read()
    value = PlainUnpickler(io.BytesIO(content), **text).load()
    _check_plain(value, len(content))
    return value


def _loads_pickle(content: bytes, **options: Any) -> Any:
    """Replacement of `pickle.loads`."""
    return _load_pickle(io.BytesIO(content), **options)


def _check_plain(value: Any, size: int) -> None:
    """Refuse an unpickled value that would crash or swamp its reader.

    Args:
        value: a matrix, an array or a dictionary, as Planetoid's files hold them.
        size: bytes of the file.

    Raises:
        ValueError: its content is out of range, or unpacks into far more than the file.
    """
    if isinstance(value, sp.csr_matrix):
        # SciPy trusts the indices; torch_geometric makes the matrix dense
        value.check_format(full_check=True)
        check_memory(math.prod(value.shape) * 8)
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise ValueError("it holds an array of objects")
    elif isinstance(value, dict):
        # a pickle may name one list many times, and torch_geometric writes each out
        entries = sum(len(neighbours) for neighbours in value.values() if isinstance(neighbours, list))
        if entries > size:
            raise ValueError(f"{size:,} bytes of it would unfold into {entries:,} entries")


class _NoUnpickler:
    """Replacement of `pickle.Unpickler`: a class that makes its own wants more than plain values."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise pickle.UnpicklingError("files are not unpickled here")


@contextmanager
def _opened(file: Any) -> Iterator[IO[bytes]]:
    if isinstance(file, str | os.PathLike):
        with open_file(Path(file), link=True) as opened:
            yield opened
    else:
        yield file


def _safe_torch_load(load: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.load` for tensors and the types that torch_geometric has put on PyTorch's safe list only."""

    def torch_load(f: Any, map_location: Any = None, *_: Any, **__: Any) -> Any:
        with _opened(f) as file:
            with checked_zip(file) as archive:
                members = archive.infolist()
            if any(info.filename.endswith("constants.pkl") for info in members):
                raise pickle.UnpicklingError("it holds a program, not tensors")
            file.seek(0)
            try:
                content = load(file, map_location, weights_only=True)
            except pickle.UnpicklingError as error:
                # PyTorch's message is a page, and advises to switch the check off: name the global only
                named = re.search(r"GLOBAL ([\w.]+)", str(error))
                raise pickle.UnpicklingError(_not_run(named[1]) if named else shown(str(error))) from None
        for tensor in _tensors(content):
            _check_tensor(tensor, max(info.file_size for info in members))
        return content

    return torch_load


def _check_tensor(tensor: Tensor, largest: int) -> None:
    """Check that the file holds all numbers of a tensor: none repeated by a stride of 0, none behind its end.

    Args:
        tensor: as loaded.
        largest: bytes of the archive's largest member, which no storage exceeds.

    Raises:
        ValueError: the tensor is larger than its storage, or that larger than any member.
    """
    if tensor.layout is not torch.strided:
        return
    claimed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if claimed > stored or stored > largest:
        there = min(stored, largest)
        shape = list(tensor.shape)
        raise ValueError(f"a tensor of shape {shape} takes {claimed:,} bytes, but {there:,} are there")


def _tensors(content: Any) -> Iterator[Tensor]:
    """All tensors in nested containers and in objects of torch_geometric."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value)
    elif hasattr(content, "to_dict") and not isinstance(content, type):
        yield from _tensors(content.to_dict())


def _safe_array_load(load: Callable[..., Any]) -> Callable[..., Any]:
    """`numpy.load` of arrays that are as large as their headers say, of objects only splits of nodes."""

    def array_load(file: Any, mmap_mode: Any = None, *_: Any, allow_pickle: bool = False, **__: Any) -> Any:
        with _opened(file) as opened:
            size = opened.seek(0, os.SEEK_END)
            if allow_pickle and _is_of_objects(opened, size):
                return _splits(opened.read(), size)
            check_arrays(opened)
        return load(file, mmap_mode, allow_pickle=False)

    return array_load


def _is_of_objects(file: IO[bytes], size: int) -> bool:
    """Whether it is an npy file of objects; it is then read up to their pickle."""
    file.seek(0)
    return file.read(6) == b"\x93NUMPY" and read_header(file, size).dtype.hasobject


def _splits(content: bytes, size: int) -> np.ndarray:
    """An array of dictionaries of node lists by name, as LINKX's authors save (``fb100-Penn94-splits.npy``).

    Raises:
        ValueError: it holds anything else; UnpicklingError if it names what is not plain.
    """
    value = PlainUnpickler(io.BytesIO(content)).load()
    entries = list(value.flat) if isinstance(value, np.ndarray) and value.dtype.hasobject else [None]
    lists = [nodes for entry in entries if isinstance(entry, dict) for nodes in entry.values()]
    plain = all(isinstance(nodes, np.ndarray) and nodes.dtype.kind in "iu" for nodes in lists)
    if not plain or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{OBJECTS}, and these are no splits of nodes")
    # a pickle may name one array many times
    if sum(nodes.nbytes for nodes in lists) > size:
        raise ValueError(f"{size:,} bytes of it would unfold into more")
    return np.array(entries, dtype=object)


@contextmanager
def _replaced(module: ModuleType, name: str, function: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def safely() -> Iterator[None]:
    """Let every module that loads files meanwhile load them safely; restore its functions at the end."""
    import torch_geometric.io.fs

    torch_load = _safe_torch_load(torch.load)
    with ExitStack() as stack:
        for module, name, function in (
            (torch, "load", torch_load),
            (torch.serialization, "load", torch_load),
            (torch_geometric.io.fs, "torch_load", torch_load),
            (np, "load", _safe_array_load(np.load)),
            (pickle, "load", _load_pickle),
            (pickle, "loads", _loads_pickle),
            (pickle, "Unpickler", _NoUnpickler),
        ):
            stack.enter_context(_replaced(module, name, function))
        yield


def check_written_inside(folder: Path, root: Path) -> None:
    """Check that a class which writes into ``folder`` writes below ``root``.

    Args:
        folder: folder below ``root`` that the class is about to write into.
        root: folder that a user has named; it may be a link itself.

    Raises:
        OSError: the folder, one between it and the root, or a file in it is a link.
    """
    between = [path for path in (folder, *folder.parents) if root in path.parents]
    inside = list(folder.iterdir()) if folder.is_dir() else []
    link = next((path for path in (*between, *inside) if path.is_symlink()), None)
    if link is not None:
        raise OSError(
            f"'{link}' is a link, and files would be written through it; put a real folder there, or name "
            "the place that it leads to"
        )


def read_tensors(path: Path) -> Any:
    """The content of a ``.pt`` file: tensors, plain containers and torch_geometric's Data.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no such file, names another class, or claims more than it holds.
    """
    from torch_geometric.data import data, storage

    # torch_geometric puts Data itself on PyTorch's safe list, but not all that a Data refers to
    parts = [data.DataEdgeAttr, data.DataTensorAttr, storage.BaseStorage, storage.GlobalStorage]
    parts += [storage.NodeStorage, storage.EdgeStorage]
    try:
        with torch.serialization.safe_globals(parts), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse .* tensor support is in beta")
            return _safe_torch_load(torch.load)(path, "cpu")
    except (OSError, MemoryError):
        raise
    except Exception as error:  # PyTorch fails in many ways at a damaged file
        raise ValueError(shown(str(error)) or type(error).__name__) from None
