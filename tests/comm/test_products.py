"""Products of rows with weights in fewer bits: what they equal, where they are refused, how long it lasts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gnnpipe.cli.compare import PlanName
from gnnpipe.comm import products
from gnnpipe.comm.groups import Links
from gnnpipe.comm.products import NEEDED_FOR_BF16, check_compute, check_effect, computing
from gnnpipe.comm.world import World
from gnnpipe.config.checks import check_config
from gnnpipe.config.resume import changes, check_resumed
from gnnpipe.config.run import Compute, Model, RunConfig, SyntheticConfig
from gnnpipe.engine.engine import Engine
from gnnpipe.errors import ConfigError
from gnnpipe.planner.search import describe
from gnnpipe.records.folder import RunFolder
from gnnpipe.run import rank, trainer
from gnnpipe.run.job import describe_plan, has_estimate, prepare_job
from gnnpipe.run.reporter import Quiet
from gnnpipe.schedule.plan import make_plan
from gnnpipe.system.cpu import cpu_flags, cpu_name
from tests.graphs import random_graph
from tests.harness import CPU, Case, train

CUDA = torch.device("cuda")
HAS_AMX = cpu_flags().issuperset(NEEDED_FOR_BF16)
needs_amx = pytest.mark.skipif(not HAS_AMX, reason="this CPU lacks amx_tile or amx_bf16")
lacks_amx = pytest.mark.skipif(HAS_AMX, reason="this CPU has AMX")


def host(root: Path, flags: str) -> Path:
    """A ``/proc`` whose first core has these flags, and whose second one has others."""
    (root / "proc").mkdir(parents=True)
    cores = [f"model name\t: Some CPU: X\nflags\t\t: fpu {flags}\n", "model name\t: Y\nflags\t\t: other\n"]
    (root / "proc" / "cpuinfo").write_text("\n".join(cores))
    return root


@pytest.fixture
def operands() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(300, 200, generator=generator), torch.randn(200, 48, generator=generator)


def test_flags_are_those_of_the_first_core(tmp_path: Path) -> None:
    root = host(tmp_path, "avx512f amx_tile")
    assert cpu_flags(root) == {"fpu", "avx512f", "amx_tile"}
    assert cpu_name(root) == "Some CPU: X"
    assert cpu_flags(tmp_path / "absent") == frozenset()
    assert cpu_name(tmp_path / "absent")


@pytest.mark.parametrize(
    ("compute", "device", "flags", "message"),
    [
        ("tf32", CPU, "amx_tile amx_bf16", "compute: tf32 is for CUDA devices, .* use --compute fp32"),
        ("bf16", CUDA, "amx_tile amx_bf16", "compute: bf16 is for CPUs with AMX, .* use --compute tf32"),
        ("bf16", CPU, "avx512_bf16", "this one lacks amx_tile and amx_bf16, without which .* --compute fp32"),
        ("bf16", CPU, "avx512_bf16 amx_tile", "this one lacks amx_bf16, without"),
    ],
)
def test_refused(compute: Compute, device: torch.device, flags: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        check_compute(compute, device, host(tmp_path, flags))


def test_allowed(tmp_path: Path) -> None:
    root = host(tmp_path, "avx512_bf16 amx_bf16 amx_tile amx_int8")
    for compute, device in (("fp32", CPU), ("fp32", CUDA), ("tf32", CUDA), ("bf16", CPU)):
        check_compute(compute, device, root)


@lacks_amx
def test_a_run_is_refused_before_its_folder_is_made(tmp_path: Path) -> None:
    import gnnpipe

    with pytest.raises(ConfigError, match="compute: bf16 needs a CPU with AMX"):
        gnnpipe.train("synthetic", compute="bf16", device="cpu", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@needs_amx
def test_the_product_is_that_of_rounded_operands(operands: tuple[Tensor, Tensor]) -> None:
    rows, weight = operands
    with computing("bf16"):
        product = rows @ weight
    a, b = rows.bfloat16().double(), weight.bfloat16().double()
    # fp32 sums of k products: k roundings at most, each of half a unit in the last place (2^-24)
    bound = (a.abs() @ b.abs()) * rows.shape[1] * 2.0**-24
    assert ((product.double() - a @ b).abs() <= bound).all()


@lacks_amx
def test_without_amx_the_setting_changes_nothing(operands: tuple[Tensor, Tensor]) -> None:
    """The reason why bf16 asks for AMX. Should this fail, PyTorch has learned to use avx512_bf16."""
    rows, weight = operands
    with computing("bf16"):
        product = rows @ weight
    bound = (rows.double().abs() @ weight.double().abs()) * rows.shape[1] * 2.0**-24
    assert ((product.double() - rows.double() @ weight.double()).abs() <= bound).all()


@lacks_amx
def test_no_effect_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="this one lacks"):
        check_effect("bf16", CPU)
    monkeypatch.setattr(products, "cpu_flags", lambda _: frozenset(NEEDED_FOR_BF16))
    with pytest.raises(ConfigError, match="compute: bf16 changes nothing on this cpu device"):
        check_effect("bf16", CPU)


def test_an_effect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "check_compute", lambda *_: None)
    monkeypatch.setattr(products, "computing", lambda compute: Rounded(compute))
    check_effect("bf16", CPU)
    check_effect("tf32", CPU)
    check_effect("fp32", CPU)


def test_a_plan_may_name_it_and_a_run_may_go_on_with_another() -> None:
    assert PlanName.parse("2x1+compute-tf32+bf16").changes["compute"] == "tf32"
    plan = replace(make_plan(2, 1, 4, 8, 100), compute="tf32")
    assert describe(plan) == "2x1x4+compute-tf32"
    before = check_config(RunConfig())
    after = replace(before, compute="tf32")
    check_resumed(after, before)
    assert changes(after, before) == ["compute tf32 (was fp32)"]


def test_the_setting_ends_with_the_context() -> None:
    before = torch.get_float32_matmul_precision()
    with computing("fp32"):
        assert torch.get_float32_matmul_precision() == before
    with computing("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    with suppress(KeyError), computing("bf16"):
        assert torch.get_float32_matmul_precision() == "medium"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


class Rounded(TorchFunctionMode):
    """Products of rounded operands on any CPU, in fp32, as a device with such products computes them."""

    PRODUCTS = (torch.mm, torch.addmm, torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.addmm_)

    def __init__(self, compute: Compute) -> None:
        super().__init__()
        self._mask = -(1 << (13 if compute == "tf32" else 16))  # low bits of the fraction that are cut off
        self._half = 1 << (12 if compute == "tf32" else 15)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in self.PRODUCTS:
            *others, left, right = args
            args = (*others, self._round(left), self._round(right))
        return func(*args, **(kwargs or {}))

    def _round(self, rows: Tensor) -> Tensor:
        bits = rows.detach().contiguous().view(torch.int32)
        odd = (bits & -self._mask) != 0
        return ((bits + self._half - 1 + odd) & self._mask).view(torch.float32).view(rows.shape)


def test_the_stand_in_rounds_as_bf16_does(operands: tuple[Tensor, Tensor]) -> None:
    rows, weight = operands
    with Rounded("bf16"):
        product = rows @ weight
    assert torch.equal(product, rows.bfloat16().float() @ weight.bfloat16().float())


@pytest.mark.parametrize("arithmetic", [Rounded, pytest.param(computing, marks=needs_amx)])
@pytest.mark.parametrize("model", ["gcn", "sage", "gcnii", "resgcn"])
def test_gradients(model: Model, arithmetic: Callable[[Compute], AbstractContextManager[Any]]) -> None:
    """They are near those in fp32, and not the same. An entry that another rounding lifts over a ReLU's 0 has
    another gradient altogether, so that they are further off than a rounding."""
    case = Case(random_graph(120, 500), model, hidden=32, chunks=2, epochs=1)
    plain = train(case)
    with arithmetic("bf16"):
        rounded = train(case)
    assert plain.gradients[0].keys() == rounded.gradients[0].keys()
    for name, exact in plain.gradients[0].items():
        off = (rounded.gradients[0][name] - exact).norm() / exact.norm()
        assert off < 0.15, name
        assert off > 1e-5 or "bias" in name, name


@pytest.fixture
def precisions(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """The setting that each kind of work of a trainer has met."""
    met: dict[str, set[str]] = {}

    def noting(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            met.setdefault(kind, set()).add(torch.get_float32_matmul_precision())
            return function(*args, **kwargs)

        return noted

    monkeypatch.setattr(rank, "check_effect", lambda *_: None)
    monkeypatch.setattr(Engine, "run_epoch", noting("epoch", Engine.run_epoch))
    monkeypatch.setattr(trainer, "evaluate", noting("evaluation", trainer.evaluate))
    monkeypatch.setattr(trainer, "refresh", noting("refresh", trainer.refresh))
    return met


def test_epochs_alone_are_computed_in_fewer_bits(tmp_path: Path, precisions: dict[str, set[str]]) -> None:
    config = check_config(
        RunConfig(
            synthetic=SyntheticConfig(num_nodes=200), layers=2, chunks=4, epochs=2, eval_every=1,
            compute="bf16", check_gradient=2, out=str(tmp_path / "run"),
        )
    )  # fmt: skip
    (tmp_path / "scratch").mkdir()
    job, facts, predictions = prepare_job(config, tmp_path / "scratch", tmp_path / "run")
    assert job.plan.compute == "bf16"
    assert has_estimate(job)
    RunFolder(job.out).create(config, describe_plan(job, facts, predictions))
    alone = SimpleNamespace(gather=lambda item: [item], collect=lambda item: [item])
    rank.train(job, World(0, 1, CPU, alone, Links(), alone), Quiet())  # type: ignore[arg-type]
    assert precisions.pop("evaluation") == {"highest"}
    # the gradient check's twin has an engine too
    assert precisions == {"epoch": {"medium", "highest"}}
    assert torch.get_float32_matmul_precision() == "highest"
