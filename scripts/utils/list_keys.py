#!/usr/bin/env python3
"""Write docs/reference/keys.md: every key of the configuration, its value in quick mode, its docstring."""

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from slicewise.config.compose import compose
from slicewise.config.schema import Config, SourceSettings
from slicewise.config.schema.data import Data
from slicewise.config.schema.sources import KINDS, PictureSettings

Texts = dict[tuple[str, str], str]

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "src" / "slicewise" / "config" / "schema"
PAGE = ROOT / "docs" / "reference" / "keys.md"
HEAD = """\
# Keys of the configuration

Made by `scripts/utils/list_keys.py` from `src/slicewise/config/schema/`; the values are those of `quick`
on the phantom; `STAGE` stands for the name of a stage, and the values are those of the first one.
`slicewise config` shows those of a command. How to set them: [configuration](configuration.md).
"""


def field_docs() -> Texts:
    """Return the docstring of each attribute of the schema, by class and name."""
    texts: Texts = {}
    for path in SCHEMA.glob("*.py"):
        for owner in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(owner, ast.ClassDef):
                texts |= {(owner.name, name): text for name, text in _attributes(owner)}
    return texts


def _attributes(owner: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(owner.body, [*owner.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value if isinstance(below, ast.Expr) else None
            value = text.value if isinstance(text, ast.Constant) else ""
            yield field.target.id, " ".join(value.split()) if isinstance(value, str) else ""


def tables(section: BaseModel, texts: Texts, prefix: str = "") -> Iterator[str]:
    """Yield a heading and a table for each section; the first stage stands for all of them."""
    kind, lines, below = type(section), [], []
    for name in kind.model_fields:
        value: Any = getattr(section, name)
        if name == "sources" and kind is Data:
            continue
        sections = [*value.values()] if isinstance(value, Mapping) else [value]
        if sections and isinstance(sections[0], BaseModel):
            placeholder = f".{name.removesuffix('s').upper()}" if isinstance(value, Mapping) else ""
            below.append((f"{name}{placeholder}", sections[0]))
            continue
        shown = json.dumps(section.model_dump(mode="json")[name])
        lines.append(_line(kind, name, f"{prefix}{name}", shown, texts))
    if lines:
        yield f"## {prefix.rstrip('.') or 'Top level'}\n\n{' '.join((kind.__doc__ or '').split())}\n"
        yield "\n".join(["| key | value | meaning |", "|---|---|---|", *lines]) + "\n"
    if kind is Data:
        yield from _source_tables(texts)
    for name, value in below:
        yield from tables(value, texts, f"{prefix}{name}.")


def _source_tables(texts: Texts) -> Iterator[str]:
    kinds: list[type[SourceSettings]] = [SourceSettings, PictureSettings, *KINDS.values()]
    for source in kinds:
        own = (name for name in source.model_fields if name in vars(source).get("__annotations__", {}))
        if rows := [_source_line(source, name, texts) for name in own]:
            yield f"## data.sources.SOURCE\n\n{' '.join((source.__doc__ or '').split())}\n"
            yield "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _source_line(source: type[SourceSettings], name: str, texts: Texts) -> str:
    field = source.model_fields[name]
    shown = "required" if field.is_required() else json.dumps(field.default)
    return _line(source, name, f"data.sources.SOURCE.{name}", shown, texts)


def _line(kind: type[BaseModel], name: str, key: str, shown: str, texts: Texts) -> str:
    owner = next(base for base in kind.__mro__ if name in vars(base).get("__annotations__", {}))
    meaning = f"{_choices(kind.model_fields[name].annotation)} {texts[owner.__name__, name]}".strip()
    return f"| `{key}` | `{shown}` | {meaning} |"


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is not Literal:
        return ""
    return ", ".join(f"`{choice}`" for choice in get_args(annotation)) + "."


def page(config: Config) -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *tables(config, field_docs())])


if __name__ == "__main__":
    PAGE.write_text(page(compose([])), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
