#!/usr/bin/env python3
"""Print the measures of the code in src/ as rows of a Markdown table: `measure_code.py [FOLDER]`.

FOLDER is the root of another checkout, by default this one: run it before and after a change.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import networkx  # comes with torch

ROOT = Path(__file__).resolve().parents[2]
SMALL_MODULE = 40
LONG_FUNCTION = 50

Function = ast.FunctionDef | ast.AsyncFunctionDef
Module = tuple[str, ast.Module, str]
"""Dotted name, syntax tree and text."""


def measure(root: Path) -> dict[str, str]:
    """Return each measure by its name."""
    modules = list(_modules(root / "src"))
    functions = [node for _, tree, _ in modules for node in ast.walk(tree) if isinstance(node, Function)]
    private, once = _private_functions(modules)
    sizes = [len(text.splitlines()) for name, _, text in modules]
    eager, lazy = _edges(modules, lazy=False), _edges(modules, lazy=True)
    return {
        "lines of src/": f"{sum(sizes):,}",
        "modules": str(len(modules)),
        "functions and methods": f"{len(functions):,}",
        "module-level private functions used once": f"{once} ({once / max(len(functions), 1):.0%} of all)",
        "module-level private functions": str(private),
        f"modules under {SMALL_MODULE} lines, packages' docstrings excepted": str(
            sum(
                size < SMALL_MODULE
                for size, (_, tree, _) in zip(sizes, modules, strict=True)
                if _has_code(tree)
            )
        ),
        "imports inside functions": str(sum(_inner_imports(tree) for _, tree, _ in modules)),
        f"functions over {LONG_FUNCTION} lines": str(
            sum(_length(node) > LONG_FUNCTION for node in functions)
        ),
        "functions without types": str(sum(not _is_typed(node) for node in functions)),
        "cycles of imports at the top of modules": str(len(cycles(eager))),
        "cycles with imports inside functions": str(len(cycles(lazy))),
    }


def _modules(source: Path) -> Iterator[Module]:
    for path in sorted(source.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(source).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), ast.parse(text), text


def _has_code(tree: ast.Module) -> bool:
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body
    )


def _private_functions(modules: list[Module]) -> tuple[int, int]:
    """Count the private functions of modules, and those of them that one place alone refers to."""
    total = once = 0
    for _, tree, _ in modules:
        uses = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        uses.update(node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        names = [node.name for node in tree.body if isinstance(node, Function) and node.name.startswith("_")]
        total += len(names)
        once += sum(uses[name] == 1 for name in names)
    return total, once


def _inner_imports(tree: ast.Module) -> int:
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    inner = {
        id(node)
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    return len(inner)


def _length(node: Function) -> int:
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _is_typed(node: Function) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return (
        all(each.annotation for each in arguments if each.arg not in {"self", "cls"})
        and node.returns is not None
    )


def _edges(modules: list[Module], *, lazy: bool) -> dict[str, set[str]]:
    """Return the modules that each module imports; those imported inside functions only where `lazy`."""
    known = {name for name, _, _ in modules}
    return {
        name: {target for target in _imports(tree, known, lazy=lazy) if target != name}
        for name, tree, _ in modules
    }


def _imports(node: ast.AST, known: set[str], *, lazy: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in known)
        elif isinstance(child, ast.ImportFrom) and child.module:
            for alias in child.names:
                below = f"{child.module}.{alias.name}"
                if below in known or child.module in known:
                    yield below if below in known else child.module
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        elif lazy or not isinstance(child, Function):
            yield from _imports(child, known, lazy=lazy)


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other in a circle."""
    groups = networkx.strongly_connected_components(networkx.DiGraph(edges))
    return [sorted(group) for group in groups if len(group) > 1]


def import_cycles(root: Path = ROOT) -> list[list[str]]:
    """Return the circles of imports below `root`/src, imports inside functions counted."""
    return cycles(_edges(list(_modules(root / "src")), lazy=True))


if __name__ == "__main__":
    for name, value in measure(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT).items():
        print(f"| {name} | {value} |")
