"""Choices: what to do with the content of a data set, or with the arrays of a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gnnpipe.config.checks import check_fields
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import GraphConfig, LabelTask, MakeSplit


@dataclass(frozen=True)
class Choices:
    """The fields of `gnnpipe.config.run.GraphConfig` that change what a graph is made of."""

    undirected: bool = False
    """Add the reverse of every edge."""
    task: LabelTask = "auto"
    """Whether labels are classes, or values to be predicted."""
    split: int = 0
    """Which of the splits that ship, or the seed of the one that is made."""
    make_split: MakeSplit = "random"
    """The split that is made where none ships."""
    features: str | None = None
    """Features to make from the edges: degree, or laplacian:16."""

    @classmethod
    def of(cls, config: GraphConfig) -> Choices:
        """The choices of a config, which is checked already."""
        return cls(**{item.name: getattr(config, item.name) for item in fields(cls)})

    @classmethod
    def given(cls, keywords: Mapping[str, Any]) -> Choices:
        """The choices among a program's keywords; raises ConfigError where one can't be used."""
        choices = configured(cls(), keywords)
        check_fields(choices)
        return choices
