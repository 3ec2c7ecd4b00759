"""One thread for every test, so that results repeat; Triton's interpreter where there is no GPU.

Hypothesis sets no deadlines: on a busy machine an example takes as long as it takes.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

if not torch.cuda.is_available():  # Triton reads it when it is first imported, which torch may do anywhere
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
