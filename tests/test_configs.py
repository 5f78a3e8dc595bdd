"""No key that nothing reads, and no default outside configs/."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from slicewise.config.schema import Config

SOURCE = Path(__file__).resolve().parents[1] / "src" / "slicewise"
READERS = [path for path in SOURCE.rglob("*.py") if "schema" not in path.parts]


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, field name) of every leaf of the schema."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", name


LOSSES = {"bce", "dice", "iou", "focal", "tversky"}
"""Read by the name of the field; tests/training shows that each weight changes the loss."""
LEAVES = [(key, name) for key, name in leaves(Config) if name not in LOSSES]


def attributes_read() -> set[str]:
    """Return the names of all attributes that the source reads, and all dotted keys it picks by name."""
    names: set[str] = set()
    for path in READERS:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.args[1].value for node in ast.walk(tree) if _is_getattr(node)}  # type: ignore[attr-defined]
    return names


def _is_getattr(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
    )


READ = attributes_read()


@pytest.mark.parametrize(("key", "name"), LEAVES)
def test_every_key_is_read_by_something(key: str, name: str) -> None:
    assert name in READ, f"nothing reads {key}: use it or drop it from the schema and configs/"


def test_defaults_live_in_configs_alone() -> None:
    def defaults(section: type[BaseModel]) -> Iterator[str]:
        for name, field in section.model_fields.items():
            if not field.is_required():
                yield f"{section.__name__}.{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from defaults(field.annotation)

    assert list(defaults(Config)) == []
