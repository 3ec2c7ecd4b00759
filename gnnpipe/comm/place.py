"""Place: where a process stands in the plan."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Coordinates of a rank: ``rank = stage * num_parts + part``.

    The parts of a stage have consecutive ranks: launchers put those on one host, and the halo exchange of
    every layer then stays inside it.
    """

    stage: int
    """Index of the stage, from 0."""
    part: int
    """Index of the part, from 0."""
    num_stages: int
    """Stages of the plan."""
    num_parts: int
    """Parts of the plan."""

    @classmethod
    def of_rank(cls, rank: int, num_stages: int, num_parts: int) -> Place:
        """The place of a global rank."""
        return cls(rank // num_parts, rank % num_parts, num_stages, num_parts)

    @property
    def is_first(self) -> bool:
        """Whether this stage reads the features."""
        return self.stage == 0

    @property
    def is_last(self) -> bool:
        """Whether this stage computes the loss."""
        return self.stage == self.num_stages - 1

    def neighbour(self, stage: int) -> int:
        """Rank that holds this rank's part on stage ``stage``."""
        return stage * self.num_parts + self.part
