#!/usr/bin/env python3
"""Write tests/steps/pins.json: a digest of the source behind each step, comments and docstrings excepted.

The source behind a step is every module that its own module imports, directly or through others, at the
top or inside a function. That may be too much: a changed pin only means that someone must check the output.
"""

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PINS = ROOT / "tests" / "steps" / "pins.json"

STEPS = ("download", "preprocess", "split", "train", "evaluate", "report", "cross_validation")
"""Modules of slicewise.steps; `train` stands for the three stages. No step uses the output of the demo."""

EXCLUDED = (
    "slicewise.config",  # its values are settings of a step
    "slicewise.engine",  # runs steps without knowing what they compute
    "slicewise.workflow.demand",  # estimates of disk and memory
    "slicewise.core.machine",
    "slicewise.core.console",  # printed text only
    "slicewise.core.errors",
    "slicewise.core.activity",
    "slicewise.core.signals",
    "slicewise.core.disk",
)
"""Modules and packages that cannot change an output."""


def digests(source: Path = SOURCE) -> dict[str, str]:
    """Return one digest per step."""
    from slicewise.core.hashing import digest

    return {step: digest([_content(path) for path in source_files(step, source)]) for step in STEPS}


def source_files(step: str, source: Path = SOURCE) -> list[Path]:
    """Return the files whose content decides the output of a step, templates beside a module included."""
    files: set[Path] = set()
    pending = [f"slicewise.steps.{step}"]
    while pending:
        path = _file(pending.pop(), source)
        if path is None:
            raise FileNotFoundError(f"no module of the step {step}; fix STEPS in {__file__}")
        if path not in files:
            files |= {path, *(path.parent / "templates").glob("*")}
            pending += [name for name in _imports(path, source) if not _is_excluded(name)]
    return sorted(files)


def _imports(path: Path, source: Path) -> Iterator[str]:
    """Yield the modules of SliceWise that a file imports; of `from package import module`, the module."""
    for module, name in _imported(path.read_text(encoding="utf-8")):
        submodule = f"{module}.{name}"
        yield submodule if name and _file(submodule, source) else module


@cache
def _imported(text: str) -> list[tuple[str, str]]:
    names: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [(node.module or "", alias.name) for alias in node.names]
    return [(module, name) for module, name in names if module.split(".")[0] == "slicewise"]


def _file(module: str, source: Path) -> Path | None:
    path = source.joinpath(*module.split("."))
    places = (path.with_suffix(".py"), path / "__init__.py")
    return next((place for place in places if place.exists()), None)


def _is_excluded(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in EXCLUDED)


def _content(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return code_without_docs(text) if path.suffix == ".py" else text


@cache
def code_without_docs(text: str) -> str:
    """Return the syntax tree of a module without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


if __name__ == "__main__":
    PINS.write_text(json.dumps(digests(), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {PINS.relative_to(ROOT)}")
