"""The table of several seeds, from folders made by hand."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnnpipe.cli.main import main
from gnnpipe.errors import ConfigError
from gnnpipe.records.folder import RunFolder
from gnnpipe.records.record import Best
from gnnpipe.records.taking import check_is_run
from gnnpipe.report.seeds import Figures, Seeds, _over
from tests.made import plan, plan_file, record, summary


def runs(where: Path, scores: dict[int, tuple[float, float | None]], metric: str = "accuracy") -> Path:
    """Finished runs with these validation and test scores, by seed."""
    for seed, (val, test) in scores.items():
        folder = RunFolder(where / f"seed-{seed}")
        folder.path.mkdir(parents=True)
        (folder.path / "config.yaml").write_text(f"lr: 0.1\nseed: {seed}\n")
        folder._write_plan(json.loads(json.dumps(plan_file(), default=vars)))
        (folder.path / "records.jsonl").touch()
        for epoch in range(3):
            folder.append(record(epoch, val=val, elapsed=(seed + 1) * (epoch + 1.0)))
        folder.write_summary(summary(metric=metric, epochs=3, best=Best(val, test, 1, None)))
    return where


def folders(where: Path) -> dict[int, Path]:
    return {int(path.name[5:]): path for path in sorted(where.iterdir()) if path.is_dir()}


@given(
    st.lists(
        st.builds(Figures, st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)), st.floats(0, 1e4)),
        min_size=2,
        max_size=12,
    )
)
def test_deviations_are_those_of_a_sample(figures: list[Figures]) -> None:
    for how, expected in ((statistics.mean, np.mean), (statistics.stdev, lambda x: np.std(x, ddof=1))):
        found = _over(how, figures)
        for key in ("best_val", "seconds", "test_at_best_val"):
            values = [getattr(item, key) for item in figures]
            if None in values:
                assert getattr(found, key) is None
            else:
                assert getattr(found, key) == pytest.approx(float(expected(values)), rel=1e-9, abs=1e-12)


def test_the_table_has_a_row_a_run_and_two_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = runs(tmp_path / "many", {0: (0.5, 0.25), 1: (0.7, 0.35), 2: (0.6, 0.45)})
    assert main(["show", str(where)]) == 0
    printed = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if "│" in line]
    assert lines == [
        ["0", "0.5000", "0.2500", "2", "3", "3.00"],
        ["1", "0.7000", "0.3500", "2", "3", "6.00"],
        ["2", "0.6000", "0.4500", "2", "3", "9.00"],
        ["mean", "0.6000", "0.3500", "", "", "6.00"],
        ["standard deviation", "0.1000", "0.1000", "", "", "3.00"],
    ]
    assert "divided by runs - 1" in printed
    assert (where / "seeds.png").exists()
    assert "not equal" not in printed
    assert main(["show", str(where), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["metric"], len(found["runs"]), found["runs"][2]["seed"]) == ("accuracy", 3, 2)
    assert found["standard_deviation"]["best_val"] == pytest.approx(0.1)


def test_what_is_left_out_or_unequal_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = runs(tmp_path, {0: (0.5, 0.5), 1: (0.5, 0.5), 2: (0.5, 0.5)})
    (where / "seed-2" / "summary.json").unlink()
    (where / "seed-1" / "config.yaml").write_text("lr: 0.2\nseed: 1\n")
    assert main(["show", str(where)]) == 0
    printed = capsys.readouterr().out
    assert "not finished, and not counted: seed 2" in printed
    assert "not equal: lr: 0.1, 0.2" in printed


def test_chunks_that_a_run_chose_equal_those_that_it_was_given(tmp_path: Path) -> None:
    """A run that goes on names the chunks that it chose before."""
    for chunks, unequal in ((1, ()), (2, ("chunks: 1, 2",))):
        where = runs(tmp_path / str(chunks), {0: (0.5, 0.5), 1: (0.5, 0.5)})
        (where / "seed-0" / "config.yaml").write_text("chunks: null\nseed: 0\n")
        (where / "seed-1" / "config.yaml").write_text(f"chunks: {chunks}\nseed: 1\n")
        folder = RunFolder(where / "seed-1")
        folder._write_plan(json.loads(json.dumps(plan_file(of=plan(chunks=chunks)), default=vars)))
        assert Seeds.of(folders(where)).unequal == unequal
        with pytest.raises(
            ConfigError, match=r"is no run \(config.yaml is absent\); name one in it, '.*seed-0'"
        ):
            check_is_run(where, "run")


def test_one_run_has_no_deviation_and_hidden_labels_no_mean(tmp_path: Path) -> None:
    seeds = Seeds.of(folders(runs(tmp_path / "one", {4: (0.5, None)})))
    assert (seeds.mean, seeds.standard_deviation) == (Figures(0.5, None, 15.0), None)
    several = Seeds.of(folders(runs(tmp_path / "two", {0: (0.5, None), 1: (0.5, 0.5)})))
    assert several.standard_deviation
    assert several.mean.test_at_best_val is several.standard_deviation.test_at_best_val is None
    assert math.isclose(several.mean.seconds, 4.5)


def test_runs_that_have_no_mean_are_refused(tmp_path: Path) -> None:
    runs(tmp_path, {0: (0.5, 0.5)})
    runs(tmp_path, {1: (0.5, 0.5)}, metric="mae")
    with pytest.raises(ConfigError, match="different metrics"):
        Seeds.of(folders(tmp_path))
    for path in folders(tmp_path).values():
        (path / "summary.json").unlink()
    with pytest.raises(ConfigError, match=r"no run in .* is finished yet"):
        Seeds.of(folders(tmp_path))
