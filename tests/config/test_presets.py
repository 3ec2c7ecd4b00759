"""Values that a preset fills in."""

from __future__ import annotations

import pytest

from gnnpipe.config.presets import resolve
from gnnpipe.config.run import RunConfig, StalenessConfig


@pytest.mark.parametrize(
    ("model", "weight"), [("gcnii", 0.7), ("resgcn", 0.7), ("gat", 0.0), ("gen", 0.0), ("m.py:layers", 0.0)]
)
def test_last_epochs_gradients_are_reused_by_models_that_do_well_with_them(model: str, weight: float) -> None:
    assert resolve(RunConfig(model=model)).staleness.weight == weight
    given = RunConfig(model=model, staleness=StalenessConfig(weight=0.3))
    assert resolve(given).staleness.weight == 0.3
    exact = RunConfig(model=model, staleness=StalenessConfig("exact"))
    assert resolve(exact).staleness.weight == 1.0
