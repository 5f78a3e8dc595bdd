"""The settings of `slicewise predict`: of the configuration, or of the bundle that it predicts with.

A bundle holds its own, so that it predicts where there are neither configuration files nor Hydra.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import TypeAdapter, ValidationError

from slicewise.cli.options import OVERRIDABLE, compose_overrides
from slicewise.config.keys import suggest
from slicewise.config.schema import Config, Evaluation, Runtime
from slicewise.core.errors import ConfigError
from slicewise.runtime.bundle import is_bundle, read_bundle

_SECTIONS: Final = ("evaluation", "runtime")


@dataclass(frozen=True)
class PredictionSettings:
    """What of the configuration a prediction needs."""

    evaluation: Evaluation
    fixed: Mapping[str, Any]
    """Keys of `evaluation` that hold whatever was selected, where they are typed"""
    runtime: Mapping[str, Any] = field(default_factory=dict)
    """`device` and `num_threads`, where they are set"""
    config: Config | None = None
    """The whole configuration; None where the bundle sufficed"""

    @classmethod
    def of(cls, args: argparse.Namespace, checkpoint: Path | None, words: Sequence[str]) -> Self:
        """Return the settings of these words `key=value`.

        Raises:
            CheckpointError: the bundle is damaged.
            ConfigError: a key is unknown, or a value invalid.
        """
        typed = {word.lstrip("+").partition("=")[0]: word.partition("=")[2] for word in words}
        evaluation = {key.partition(".")[2] for key in typed if key.startswith("evaluation.")}
        keys = evaluation & {*OVERRIDABLE}
        bundle = read_bundle(checkpoint) if checkpoint and is_bundle(checkpoint) else None
        if bundle and all(key.partition(".")[0] in _SECTIONS and "." in key for key in typed):
            values = {key: _plain(typed[f"evaluation.{key}"]) for key in evaluation}
            settings, runtime = bundle.settings(values), _runtime(typed)
            return cls(settings, settings.model_dump(include=keys), runtime)
        config = compose_overrides(words, args)
        settings = config.evaluation
        if bundle:
            settings = bundle.settings(settings.model_dump(include=evaluation))
        runtime = {"device": config.runtime.device, "num_threads": config.runtime.num_threads}
        return cls(settings, settings.model_dump(include=keys), runtime, config)


def _plain(text: str) -> str | None:
    return None if text.lower() == "null" else text


def _runtime(typed: Mapping[str, str]) -> dict[str, Any]:
    """Return the checked values of the section `runtime`."""
    values, fields = {}, Runtime.model_fields
    for key, text in typed.items():
        section, _, name = key.partition(".")
        if section != "runtime":
            continue
        if name not in fields:
            raise ConfigError(f"{key}: unknown key{suggest(key)}  [command line: {key}={text}]")
        kind: Any = Annotated[(fields[name].annotation, *fields[name].metadata)]
        try:
            values[name] = TypeAdapter(kind).validate_python(_plain(text))
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ConfigError(f"{key}: {text!r} is invalid: {reason[:1].lower()}{reason[1:]}") from error
    return {name: values[name] for name in ("device", "num_threads") if name in values}
