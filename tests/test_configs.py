"""No key that nothing reads, and no default outside configs/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, create_model
from tests.config_usage import Field, fields_read

from slicewise.config.schema import Config, Evaluation, Runtime
from slicewise.config.schema.evaluation import InferenceSettings

SOURCE = Path(__file__).resolve().parents[1] / "src" / "slicewise"
NO_READERS = {SOURCE / "workflow" / "settings.py", *(SOURCE / "config" / "schema").glob("*.py")}
"""Receipts name every key and the schema checks it; neither uses one."""
READERS = [path for path in sorted(SOURCE.rglob("*.py")) if path not in NO_READERS]


def leaves(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yield the dotted key of every leaf of the schema, and the field that it is."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", (section, name)


ELSEWHERE = {"bce", "dice", "iou", "focal", "tversky", *InferenceSettings._fields}
"""Read by the name of the field, and through `Evaluation.inference`; tests of training and inference show
that each changes the outcome."""
MOVED = ("data.path",)
"""Validation moves it to the only source."""
LEAVES = [key for key, (_, name) in leaves(Config) if name not in ELSEWHERE and key not in MOVED]


def unread(config: type[BaseModel], sources: list[str]) -> set[str]:
    """Return the dotted keys of all leaves that no source reads."""
    read = fields_read(sources, config)
    return {key for key, field in leaves(config) if field not in read}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in READERS]


@pytest.fixture(scope="module")
def unread_keys(sources: list[str]) -> set[str]:
    return unread(Config, sources)


@pytest.mark.parametrize("key", LEAVES)
def test_every_key_is_read_by_something(unread_keys: set[str], key: str) -> None:
    assert key not in unread_keys, f"nothing reads {key}: use it or drop it from the schema and configs/"


def test_a_key_that_nothing_reads_is_found_whatever_else_has_its_name(sources: list[str]) -> None:
    """The source is full of `.mean()`, `.shape` and `.folder`; none is taken from a section.

    One key more has lost its only reader.
    """
    assert any(".crop_margin" in text for text in sources)
    without = [text.replace("settings.crop_margin", "0.1") for text in sources]
    invented: Any = dict.fromkeys(("mean", "shape", "folder", "epochs"), (float, ...))
    evaluation = create_model("Evaluation", __base__=Evaluation, **invented)
    runtime = create_model("Runtime", __base__=Runtime, **invented)
    changed: Any = {"evaluation": (evaluation, ...), "runtime": (runtime, ...)}
    config = create_model("Config", __base__=Config, **changed)

    keys = {f"{section}.{name}" for section in ("evaluation", "runtime") for name in invented}
    assert keys | {"preprocessing.crop_margin"} <= unread(config, without)


TAKEN = (
    "def f(config: Config): return config.evaluation.batch_size",
    "def f(context: 'Context[Config]'): return context.config.evaluation.batch_size",
    "def f(settings: Evaluation | None): return settings.batch_size",
    "def f(c: Config):\n    part = c.evaluation\n    return range(part.batch_size)",
    "def f(c: Config): return [part.batch_size for part in (c.evaluation, c.training)]",
    "def f(c: Config): return getattr(c.evaluation, 'batch_size')",
    "class A:\n    def g(self, c: Config): self.x = c.evaluation\n    def f(self): self.x.batch_size",
    "def g(c: Config) -> Evaluation: ...\ndef f(c: Config): return g(c).batch_size",
)
NOT_TAKEN = (
    "def f(config: Config): return config.training.batch_size",
    "def f(evaluation: Report): return evaluation.batch_size",
    "def f(config: Config): return 'evaluation.batch_size'",
)


@pytest.mark.parametrize("text", TAKEN + NOT_TAKEN)
def test_a_read_is_one_of_the_section_that_has_the_key(text: str) -> None:
    assert ((Evaluation, "batch_size") in fields_read([text], Config)) == (text in TAKEN)


def test_defaults_live_in_configs_alone() -> None:
    def defaults(section: type[BaseModel]) -> Iterator[str]:
        for name, field in section.model_fields.items():
            if not field.is_required():
                yield f"{section.__name__}.{name}"
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from defaults(field.annotation)

    assert list(defaults(Config)) == []
