"""The registry of models, and what is known of them where PyTorch is not imported."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from gnnpipe.config.run import DENSE_ENDS, Model
from gnnpipe.nn.models import MODELS, ModelSpec, build_stack


def test_every_model_that_can_be_asked_for_is_registered() -> None:
    assert set(MODELS) == set(get_args(Model))


def test_the_config_knows_which_models_have_dense_ends() -> None:
    assert {name for name, model in MODELS.items() if model.ends is not None} == set(DENSE_ENDS)


@pytest.mark.parametrize("name", get_args(Model))
def test_stack(name: Model) -> None:
    """Ends belong to the first and the last convolution, and initial rows are what the input layer makes."""
    stack = build_stack(ModelSpec(name, 3, 8, 5, 2, False, 0))
    convolutions = [("layers.0", 0), ("layers.1", 1), ("layers.2", 2)]
    ends = name in DENSE_ENDS
    expected = [("input", 0), *convolutions, ("output", 2)] if ends else convolutions
    assert [(item.name, item.convolution) for item in stack] == expected
    modules = [item() for item in stack]
    assert [module.width is None for module in modules] == [
        item.name in ("input", "output") for item in stack
    ]
    assert (modules[0].in_features, modules[-1].out_features) == (5, 2)
    assert not MODELS[name].has_initial or modules[0].out_features == 8


def test_initial_rows_need_a_dense_layer_that_makes_them() -> None:
    """A convolution whose derivative is written out would not mask their gradient by its ReLU."""
    with pytest.raises(ValueError, match="has_initial: initial rows are made by a dense input layer"):
        replace(MODELS["gcn"], has_initial=True)
