"""result.json: a line for every run, so that a stopped benchmark goes on and diffs can be read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.depth.plans import Run

RESULT = Path(__file__).with_name("result.json")

Found = dict[str, Any]


@dataclass
class Results:
    """What is in the file."""

    path: Path = RESULT
    environment: Found = field(default_factory=dict)
    runs: dict[str, Found] = field(default_factory=dict)
    """By the name of the run."""
    sampled: dict[str, Found] = field(default_factory=dict)
    """By ``graph/layers/seed``."""
    equal: dict[str, Found] = field(default_factory=dict)
    """By ``model, plan``."""

    @classmethod
    def read(cls, path: Path = RESULT) -> Results:
        """Read a file; an absent one holds nothing."""
        return cls(path, **(json.loads(path.read_text()) if path.exists() else {}))

    def holds(self, run: Run) -> bool:
        """Whether a run is there with these flags."""
        return run.name in self.runs and self.runs[run.name]["flags"] == run.flags

    def write(self) -> None:
        """Replace the file."""
        parts = [f'"environment": {json.dumps(self.environment)}']
        for name in ("runs", "sampled", "equal"):
            lines = [f"{json.dumps(key)}: {json.dumps(found)}" for key, found in getattr(self, name).items()]
            parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
        aside = self.path.with_suffix(".new")
        aside.write_text("{\n" + ",\n".join(parts) + "\n}\n")
        aside.replace(self.path)


def summarize(records: list[Found]) -> Found:
    """A run's records as result.json keeps them: the best evaluation, and curves thinned to 20 points."""
    evaluated = [record for record in records if "val" in record]
    best = max(evaluated, key=lambda record: record["val"])
    thinned = evaluated[:: max(1, len(evaluated) // 20)]
    curves = {name: [round(record[name], 4) for record in thinned] for name in ("train", "val", "test")}
    return {
        "best_val": round(best["val"], 5),
        "test": round(best["test"], 5),
        "best_epoch": best["epoch"] + 1,
        "last_loss": round(records[-1]["loss"], 4),
        "epochs": records[-1]["epoch"] + 1,
        "last_train": round(evaluated[-1]["train"], 4),
        "curves": {"epoch": [record["epoch"] + 1 for record in thinned], **curves},
    }
