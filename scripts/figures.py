"""Print figures of the package's shape: ``python scripts/figures.py [FOLDER]``, by default gnnpipe.

They say where to look, not what is good: CONTRIBUTING.md has what we aim at.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[1]
MODELS = {"gcn", "sage", "gcnii", "resgcn"}
NORMALIZE = "normalize"  # the module where gcn is a way to normalise, and no model
BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.With, ast.Assert, ast.comprehension,
)  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Print one line a figure."""
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "gnnpipe"
    trees = {path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}
    functions = [
        (path, node) for path, tree in trees.items() for node in ast.walk(tree) if _is_function(node)
    ]
    lines = [_length(node) for _, node in functions]
    complexity = {f"{path.stem}.{node.name}": _complexity(node) for path, node in functions}
    folders = Counter(path.parent for path in trees if path.name != "__init__.py")
    largest, most = folders.most_common(1)[0]
    text = "\n".join(path.read_text() for path in trees)
    edges = {_module(package, path): set(_imports(package, tree)) for path, tree in trees.items()}
    worst = max(complexity, key=lambda name: complexity[name])
    whole = sum(_takes(node, "RunConfig") for _, node in functions)
    named = sum(_names_models(tree) for path, tree in trees.items() if path.stem != NORMALIZE)
    print(f"import cycles                     {_cycles(edges)}")
    print(f"modules named by a string         {sum(_strings(package, tree) for tree in trees.values())}")
    print(f"files in the largest folder       {most} ({largest.name})")
    print(f"assert ... is not None            {sum(_asserts(tree) for tree in trees.values())}")
    print(f"dict[str, Any]                    {text.count('dict[str, Any]')}")
    print(f"functions that take a RunConfig   {whole}")
    print(
        f"function lines median / p95 / max {median(lines):g} / {quantiles(lines, n=20)[-1]:g} / {max(lines)}"
    )
    print(f"most branches of a function       {complexity[worst]} ({worst})")
    print(f"comparisons with a model's name   {named}")
    print(f"files, lines                      {len(trees)}, {len(text.splitlines())}")
    print(f"comments per 100 lines            {_comments(text):.1f}")


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _length(node: Function) -> int:
    """Lines without the docstring."""
    documented = ast.get_docstring(node, clean=False)
    return (node.end_lineno or 0) - node.lineno + 1 - (documented.count("\n") + 1 if documented else 0)


def _complexity(node: Function) -> int:
    """One more than the branches; a boolean operator counts each further operand."""
    found = 1
    for inner in ast.walk(node):
        found += isinstance(inner, BRANCHES) and not isinstance(inner, ast.With | ast.Assert)
        found += len(inner.values) - 1 if isinstance(inner, ast.BoolOp) else 0
    return found


def _takes(node: Function, name: str) -> bool:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return any(name in ast.unparse(arg.annotation) for arg in every if arg.annotation)


def _asserts(tree: ast.Module) -> int:
    tests = [ast.unparse(node.test) for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    return sum("is not None" in test for test in tests)


def _names_models(tree: ast.Module) -> int:
    """Comparisons with the name of a model, or membership of one among such names."""
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    strings = [
        {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)} for node in compared
    ]
    return sum(bool(found & MODELS) for found in strings)


def _comments(text: str) -> float:
    lines = [line for line in text.splitlines() if line.strip()]
    return 100 * sum("# " in line for line in lines) / len(lines)


def _module(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imports(package: Path, tree: ast.Module) -> Iterator[str]:
    """Modules of the package that are imported as this one is."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gnnpipe."):
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                is_module = (package.parent / Path(*inner.split("."))).with_suffix(".py").exists()
                yield inner if is_module else node.module


def _strings(package: Path, tree: ast.Module) -> int:
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    names = [value for value in values if isinstance(value, str) and value.startswith("gnnpipe.")]
    files = [
        (package.parent / Path(*name.split("."))).with_suffix(".py") for name in names if " " not in name
    ]
    return sum(path.exists() for path in files)


def _cycles(edges: dict[str, set[str]]) -> int:
    """Modules that reach themselves."""
    found = 0
    for start in edges:
        seen: set[str] = set()
        front = set(edges[start])
        while front - seen:
            seen |= front
            front = {after for module in front for after in edges.get(module, ())}
        found += start in seen
    return found


if __name__ == "__main__":
    main()
