"""Models of one's own: arguments, factories, widths, weights, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import gnnpipe
from gnnpipe.config.run import RunConfig
from gnnpipe.errors import ConfigError
from gnnpipe.graph.csr import Csr
from gnnpipe.nn.features import SparseRows
from gnnpipe.nn.layer import Layer
from gnnpipe.nn.models import DataSizes, ModelSpec, build_stack, fitted, spec_of
from gnnpipe.nn.own.arguments import arguments_of
from gnnpipe.nn.own.code import load_function
from gnnpipe.nn.own.model import check_layers, outline_of
from tests.nn.own.made import own_model, written


def spec(place: str, **changes: object) -> ModelSpec:
    return spec_of(RunConfig(model=place, **changes), DataSizes(5, 3))  # type: ignore[arg-type]


def test_the_public_names_import_no_torch() -> None:
    code = "import sys, gnnpipe; gnnpipe.nn; assert 'torch' not in sys.modules; gnnpipe.nn.Rows"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(getattr(gnnpipe.nn, name) for name in gnnpipe.nn.__all__)
    with pytest.raises(AttributeError, match="Row"):
        _ = gnnpipe.nn.Row  # type: ignore[attr-defined]


def test_the_list_is_the_stack(tmp_path: Path) -> None:
    found = spec(written(tmp_path))
    assert (found.layers, found.hidden, found.num_features, found.num_classes) == (3, 8, 5, 3)
    stack = build_stack(found)
    # Rows Edge Norm Gin Norm Edge Norm Rows: rows run on the stage of the convolution in front
    assert [item.convolution for item in stack] == [0, 0, 0, 1, 1, 2, 2, 2]
    assert [item.aggregates for item in stack] == [False, True, False, True, False, True, False, False]
    assert [type(item()).__name__ for item in stack[:4]] == ["Rows", "EdgeSum", "Rows", "Gin"]
    assert [item().drop_rate for item in stack] == [None] * 7 + [0.25]
    assert stack[0]().relu


def test_rows_are_joined_in_a_known_way(tmp_path: Path) -> None:
    code = """
    def layers(num_features, num_classes):
        yield lambda: gnnpipe.nn.Jump(Gin(num_features, num_classes), "mean", 0, last=True)
    """
    with pytest.raises(ConfigError, match=r"item 0 .* joined by 'mean'; use one of sum, max, cat"):
        spec(written(tmp_path, code))


def test_code_of_a_model_may_look_at_numbers(tmp_path: Path) -> None:
    code = """
    def layers(num_features, num_classes):
        degrees = torch.tensor([1.0, 2.0, 3.0])
        assert degrees.sum().item() == 6
        def last():
            width = int(torch.tensor([2, 4]).sum())
            return gnnpipe.nn.Rows(nn.Linear(width, num_classes))
        yield lambda: Gin(num_features, int(degrees.sum()))
        yield last
    """
    stack = build_stack(spec(written(tmp_path, code)))
    with torch.device("meta"):
        rows = stack[1]()
    assert (rows.in_features, rows.out_features) == (6, 3)
    assert {weight.device.type for weight in rows.parameters()} == {"meta"}
    assert {weight.device.type for weight in stack[1]().parameters()} == {"cpu"}


def test_weights_are_a_function_of_the_seed_and_the_layer(tmp_path: Path) -> None:
    place = written(tmp_path)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    stack = build_stack(ModelSpec(**{**vars(spec(place)), "seed": 7}))
    last = stack[5]()
    everything = [item() for item in stack]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(last, everything[5])
    assert not same(everything[1], everything[5])
    assert not same(build_stack(spec(place))[5](), last)


def same(first: Layer, second: Layer) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_variables_of_a_loop_are_those_of_the_item(tmp_path: Path) -> None:
    place = written(
        tmp_path,
        """
        def layers(num_features, num_classes):
            width = num_features
            for wider in (4, 6, num_classes):
                yield lambda: Gin(width, wider)
                width = wider
        """,
    )
    found = [(item.in_features, item.out_features) for item in outline_of(own_model(place)).items]
    assert found == [(5, 4), (4, 6), (6, 3)]
    assert [item().out_features for item in build_stack(spec(place))] == [4, 6, 3]


def test_a_changed_file_is_another_model(tmp_path: Path) -> None:
    place = written(tmp_path)
    before, file = spec(place), Path(place.rpartition(":")[0])
    file.write_text(file.read_text().replace("depth=3", "depth=4"))
    assert (before.layers, spec(place).layers) == (3, 4)
    with pytest.raises(ConfigError, match="has changed while the run was starting"):
        build_stack(before)[0]()


def test_arguments(tmp_path: Path) -> None:
    place = written(
        tmp_path,
        "def layers(num_features, num_classes, depth, hidden=7, heads=2, *, slope=0.1, edge_dim): ...",
    )
    function = load_function(place)
    sizes = {"num_features": 5, "num_classes": 3, "edge_dim": 0}
    assert arguments_of(function, own_model(place)) == {**sizes, "depth": 32}
    given = arguments_of(function, own_model(place, "layers=4", "hidden=9", "heads=3", "dropout=0.1"))
    assert given == {**sizes, "depth": 4, "hidden": 9, "heads": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("head=4",), "model-options: mine.py:layers has no argument head; did you mean 'heads'"),
        (("xyz=4",), "has no argument xyz; it takes heads, must"),
        (("layers=4",), "layers: mine.py:layers has no argument layers"),
        (("num_classes=4",), "num_classes is that of the graph"),
        ((), "needs must; give --model-options .must=...."),
    ],
)
def test_arguments_that_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    place = written(tmp_path, "def layers(num_features, num_classes, must, heads=2): ...")
    with pytest.raises(ConfigError, match=message.replace("it takes heads, must", "it takes must, heads")):
        arguments_of(load_function(place), own_model(place, *arguments))


ITEMS = "def layers(num_features, num_classes):\n    "


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("yield gnnpipe.nn.Rows(nn.Linear(5, 3))", "item 0 of .*built already.*write yield lambda: Rows"),
        ("yield 3", r"item 0 of .* is '3' \(int\); yield factories"),
        ("return 3", "gives no list of layers"),
        ("raise KeyError(7)\n    yield", r"failed at item 0 \(line \d+: KeyError: 7\)"),
        ("yield lambda: 3", "item 0 of .* builds a int; build a layer of gnnpipe.nn"),
        ("yield lambda: Gin(5)", r"item 0 of .* can't be built \(line \d+: TypeError"),
        ("yield lambda: nn.Linear(5, 3)", "none of the 1 items .* reads neighbours"),
        ("yield lambda: Gin(4, 3)", r"item 0 .*Gin.* reads rows of 4 columns, and the graph has 5 features"),
        (
            "yield lambda: Gin(5, 4)\n    yield lambda: Gin(6, 3)",
            r"item 1 .*Gin.* reads rows of 6 columns, and item 0 \(Gin.*\) makes 4; make the two alike",
        ),
        (
            "yield lambda: Gin(5, 4)\n    yield lambda: nn.Linear(6, 3)",
            r"item 1 .*Rows.* can't take rows of 4 columns, and item 0 \(Gin.* makes 4 \(RuntimeError",
        ),
        ("yield lambda: Gin(5, 4)", r"item 0, the last of .* makes 4 columns, and the graph needs 3"),
        (
            "yield lambda: gnnpipe.nn.GcnLayer(5, 4)\n    yield lambda: gnnpipe.nn.SageLayer(4, 3)",
            r"item 0 .* wants the adjacency 'gcn', and item 1 .* 'mean'",
        ),
        (
            "yield lambda: nn.LazyLinear(4)\n    yield lambda: Gin(4, 3)",
            "whose shape isn't known yet|can't take rows",
        ),
        ("while True:\n        yield lambda: nn.ReLU()", "yields more than"),
    ],
)
def test_lists_that_are_refused(
    tmp_path: Path, code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gnnpipe.nn.own.items.MOST_LAYERS", 20)
    with pytest.raises(ConfigError, match=message):
        outline_of(own_model(written(tmp_path, ITEMS + code)))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def layers(num_features): ...", "takes no argument num_classes; write def layers"),
        ("def layerz(): ...", "has no function layers; did you mean 'layerz'"),
        ("raise SystemExit(3)", "mine.py' can't be imported \\(line [0-9]+: SystemExit: 3\\)"),
        ("layers = [nn.Linear(5, 3)]", "layers of .* is no function \\(list\\); name one that yields"),
        ("import nonsense_of_mine", r"can't be imported \(line \d+: ModuleNotFoundError.*nonsense_of_mine"),
        ("def (", r"can't be imported \(line \d+: SyntaxError"),
    ],
)
def test_code_that_is_refused(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        outline_of(own_model(written(tmp_path, code)))


def test_no_other_function_is_called() -> None:
    """A config of somebody else may name any function, with arguments."""
    with pytest.raises(ConfigError, match="shutil:rmtree takes no argument num_features"):
        outline_of(own_model("shutil:rmtree", "path=/nowhere"))


def test_modules_beside_the_file_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("WIDTH = 6\n")
    code = (
        "import beside_mine\n"
        + ITEMS
        + "yield lambda: Gin(5, beside_mine.WIDTH)\n    yield lambda: Gin(6, 3)"
    )
    assert outline_of(own_model(written(tmp_path, code))).hidden == 6


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("nn.Dropout(0.5)", "item 0 .* draws random numbers in training.*give Rows"),
        ("nn.Softmax(dim=0)", "makes rows that depend on other rows"),
        ("Counting()", r"changes its buffer 0.steps when it runs"),
    ],
)
def test_rows_that_are_refused(tmp_path: Path, module: str, message: str) -> None:
    counting = """
class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(1))
    def forward(self, rows):
        self.steps += 1
        return rows
"""
    code = counting + ITEMS + f"yield lambda: {module}\n    yield lambda: Gin(5, 3)"
    with pytest.raises(ConfigError, match=message):
        check_layers(own_model(written(tmp_path, code)))


def test_rows_that_are_not_rows(tmp_path: Path) -> None:
    code = ITEMS + "yield lambda: nn.Flatten(0)\n    yield lambda: Gin(5, 3)"
    with pytest.raises(ConfigError, match="a row of output is needed for each row"):
        outline_of(own_model(written(tmp_path, code)))


def test_good_layers_pass(tmp_path: Path) -> None:
    check_layers(own_model(written(tmp_path)))


def test_batch_norms_become_ours(tmp_path: Path) -> None:
    code = (
        ITEMS + "yield lambda: nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))\n    yield lambda: Gin(5, 3)"
    )
    place = written(tmp_path, code)
    check_layers(own_model(place))
    kinds = [type(module).__name__ for module in build_stack(spec(place))[0]().modules()]
    assert kinds == ["Rows", "ModuleList", "Sequential", "Linear", "BatchNorm"]


def test_jumping_knowledge_is_part_of_a_list(tmp_path: Path) -> None:
    code = (
        ITEMS
        + """yield lambda: nn.Linear(num_features, 4)
    for index in range(3):
        yield lambda: gnnpipe.nn.Jump(Gin(4, 4), "cat", index, last=index == 2)
    yield lambda: nn.Linear(12, num_classes)
"""
    )
    found = [item.out_features for item in outline_of(own_model(written(tmp_path, code))).items]
    assert found == [4, 8, 12, 12, 3]


@pytest.mark.parametrize("bias", [True, False])
def test_rows_multiply_sparse_features_as_they_are(bias: bool) -> None:
    rows = gnnpipe.nn.Rows(nn.Sequential(nn.Linear(6, 4, bias=bias), nn.Tanh()), nn.Linear(4, 2))
    rows.fit(6)
    dense = torch.randn(7, 6) * (torch.rand(7, 6) > 0.5)
    sparse = SparseRows.from_csr(csr_of(dense))
    assert rows.sparse_input
    none, found = rows.message(sparse, lambda given: given)  # type: ignore[arg-type]
    assert none is None
    torch.testing.assert_close(found, rows.message(dense, lambda given: given)[1])  # type: ignore[arg-type]
    assert not gnnpipe.nn.Rows(nn.LayerNorm(6), nn.Linear(6, 2)).sparse_input


def csr_of(dense: torch.Tensor) -> Csr:
    rows, cols = dense.nonzero(as_tuple=True)
    rowptr = torch.zeros(len(dense) + 1, dtype=torch.int64)
    rowptr[1:] = torch.bincount(rows, minlength=len(dense)).cumsum(0)
    return Csr(rowptr, cols, dense[rows, cols], dense.shape[1])


def test_sparse_features_need_a_product_first(tmp_path: Path) -> None:
    place = written(tmp_path, ITEMS + "yield lambda: Gin(5, 3)")
    with pytest.raises(ConfigError, match=r"features are sparse, and item 0 .*begin with gnnpipe.nn.Rows"):
        spec_of(RunConfig(model=place), DataSizes(5, 3, sparse_features=True))


def test_weights_of_a_file_are_compared(tmp_path: Path) -> None:
    found = spec(written(tmp_path))
    weights = {
        f"{item.name}.{name}": weight
        for item in build_stack(found)
        for name, weight in item().state_dict().items()
    }
    assert fitted(found, weights) == found
    with pytest.raises(ValueError, match=r"layers.1.mlp.bias should have the shape"):
        fitted(found, {name: weight for name, weight in weights.items() if name != "layers.1.mlp.bias"})


def test_lists_with_a_convolution_inside_a_module_are_refused(tmp_path: Path) -> None:
    code = (
        "from torch_geometric.nn import GCNConv\n" + ITEMS + ("yield lambda: nn.ModuleList([GCNConv(5, 3)])")
    )
    with pytest.raises(ConfigError, match=r"has the convolution GCNConv inside.*list its parts one by one"):
        outline_of(own_model(written(tmp_path, code)))
