#!/usr/bin/env python3
"""Write docs/reference/python.md: the public Python interface, from its signatures and docstrings."""

import inspect
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from slicewise.experiment import Experiment
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import Prediction

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "python.md"
HEAD = """# Python

Made by `scripts/utils/list_api.py` from the docstrings. Examples: [use in Python](../howto/python.md);
the interfaces for other packages: [extend](../howto/extend.md).
"""


def section(kind: type[Any]) -> Iterator[str]:
    """Yield what the docs say about a class, its public methods and its properties."""
    yield f"\n## {kind.__name__}\n\n`{kind.__module__}`\n\n{_text(kind)}"
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(function) and function.__doc__:
            yield f"\n### {kind.__name__}.{name}\n\n{_text(function)}"
    properties = [
        f"| `{name}` | {' '.join(member.__doc__.split())} |"
        for name, member in vars(kind).items()
        if not name.startswith("_") and isinstance(member, property | cached_property) and member.__doc__
    ]
    if properties:
        yield "\n| property | is |\n|---|---|\n" + "\n".join(properties)


def _text(documented: Any) -> str:
    """Return signature and docstring, as text: it has the layout of Google's style."""
    signature = "" if inspect.isclass(documented) else f"{documented.__name__}{_arguments(documented)}\n\n"
    return f"```text\n{signature}{inspect.getdoc(documented)}\n```"


def _arguments(function: Any) -> str:
    parameters = list(inspect.signature(function).parameters.values())[1:]  # without self or cls
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain))


def page() -> str:
    """Return the whole page."""
    return (
        HEAD + "\n".join(line for kind in (Experiment, Pipeline, Prediction) for line in section(kind)) + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
