"""NodeIds: the names that nodes have in a user's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class NodeIds:
    """The id of each node in the files that a graph came from: whole numbers, or text.

    Text is kept as one array of UTF-8 bytes, which can be mapped from a file: the id of node i is
    ``content[start[i]:start[i + 1]]``.
    """

    content: np.ndarray
    """int64 ``[num_nodes]``; for text uint8 ``[num_bytes]``."""
    start: np.ndarray | None = None
    """int64 ``[num_nodes + 1]``, rising from 0, for text; None for whole numbers."""

    @classmethod
    def of_text(cls, texts: Sequence[str]) -> NodeIds:
        """Ids that are text, node by node."""
        encoded = [text.encode() for text in texts]
        start = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in encoded], out=start[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), start)

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.content) if self.start is None else len(self.start) - 1

    def of(self, nodes: np.ndarray) -> np.ndarray:
        """The ids of some nodes: int64 ``[n]``, or texts."""
        if self.start is None:
            return np.asarray(self.content[nodes])
        return np.array([self[node] for node in nodes.tolist()], dtype=object)

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's format of all ids."""
        if self.start is None:
            return np.dtype(np.int64)
        # a text has at most as many letters as bytes
        return np.dtype(f"<U{max(1, int(np.diff(self.start).max(initial=0)))}")

    def __getitem__(self, node: int) -> int | str:
        """The id of a node; raises IndexError."""
        if not 0 <= node < len(self):
            raise IndexError(node)
        if self.start is None:
            return int(self.content[node])
        return bytes(self.content[self.start[node] : self.start[node + 1]]).decode()
