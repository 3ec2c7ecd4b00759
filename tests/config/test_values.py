"""Values of flags that are lists of words."""

from __future__ import annotations

from typing import Any

import pytest

from gnnpipe.config.checks import check_config
from gnnpipe.config.keywords import configured
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("csv", ("csv",)),
        ("tensorboard,wandb", ("tensorboard", "wandb")),
        ("tensorboard, wandb", ("tensorboard", "wandb")),
        ("[mlflow,csv]", ("mlflow", "csv")),
        (["mlflow", "csv"], ("mlflow", "csv")),
        (("csv",), ("csv",)),
        ("[]", ()),
        ([], ()),
    ],
)
def test_words_may_be_separated_by_commas(given: Any, expected: tuple[str, ...]) -> None:
    assert check_config(configured(RunConfig(), {"log": given})).log == expected


@pytest.mark.parametrize("given", ["", "csv,", "csv;wandb", "CSV", 3, ["csv", 3], "csv wandb"])
def test_other_words_are_refused(given: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^log: .* can't be used; expected a list of csv, tensorboard, wandb"
    ):
        configured(RunConfig(), {"log": given})
