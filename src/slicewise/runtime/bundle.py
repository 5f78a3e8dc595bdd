"""A bundle: the folder of an exported model. `bundle.json` holds all that a prediction needs but the graphs.

    bundle.json     the model's description, its thresholds, the digest of every file, the proof of parity
    model.onnx      a graph; others are model.xml and model.bin (OpenVINO), model.ts (TorchScript)
    README.md       how to predict with it

A graph takes `images` [B, C, N, N], float32 as `imaging.slicing` prepares them, and `presence` [B, C]. It
gives `mask_probability` [B, K, N, N], which means nothing where all channels are 0, and `class_probability`
[B] or [B, C]: those of the tasks that there are.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from slicewise.config.keys import suggest
from slicewise.config.schema import Evaluation, Model, Preprocessing, Tasks
from slicewise.core.errors import CheckpointError, ConfigError, SliceWiseError
from slicewise.core.files import is_safe_relative, read_json
from slicewise.core.hashing import hash_file
from slicewise.core.machine import processor_flags
from slicewise.domain.reference import Appearance, TrainingReference

BUNDLE_NAME: Final = "bundle.json"
EXPORTS: Final = "exports"
"""Folder of a workspace in which bundles lie"""
FORMAT: Final = "slicewise-bundle"
VERSION: Final = 1
RUNNERS: Final[Mapping[str, str]] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""What runs a graph without torch, and the package that it needs"""
_PLAIN: Final = ("stage", "metrics", "fingerprint", "data_name", "synthetic", "slot")
_ISA: Final = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
"""Flags of a processor that choose other kernels"""


def machine_kind() -> str:
    """Return the kind of this machine's processor: results may differ between kinds, above all in int8."""
    return " ".join([platform.machine(), *(flag for flag in _ISA if flag in processor_flags())])


@dataclass(frozen=True)
class GraphFile:
    """One exported graph."""

    name: str
    """Such as `onnx` or `onnx_int8`"""
    runner: str
    """A name of `RUNNERS`; `torchscript` needs torch, and so has none"""
    files: Mapping[str, str]
    """Name -> SHA-256; the first one is opened"""
    parity: Mapping[str, Any]
    """The comparison with the checkpoint: `passed`, `machine`, `milliseconds` of a slice, and so on"""

    details: Mapping[str, Any] = field(default_factory=dict)
    """Such as the opset"""

    @property
    def is_proven(self) -> bool:
        """Whether it agreed with the checkpoint, on a machine of this kind."""
        return self.parity.get("passed") is True and self.parity.get("machine") == machine_kind()

    @property
    def is_runnable(self) -> bool:
        """Whether the package that it needs is installed."""
        return self.runner in RUNNERS and find_spec(RUNNERS[self.runner]) is not None


@dataclass(frozen=True)
class Bundle:
    """An exported model: what a checkpoint is to a prediction, with graphs in place of weights."""

    folder: Path
    graphs: Mapping[str, GraphFile]
    model: Model
    preprocessing: Preprocessing
    tasks: Tasks
    stage: str
    metrics: Mapping[str, float]
    fingerprint: str
    data_name: str
    synthetic: bool
    slot: str
    weights_digest: str
    source: Mapping[str, Any]
    """The checkpoint's file: `name`, `size` and `sha256`"""
    evaluation: Mapping[str, Any]
    """The section `evaluation`, for all that was not selected"""
    points: Mapping[str, Any]
    """Operating points, see `inference.operating_points`"""
    reference: TrainingReference | None = None
    """How the training cases look; who they were is not in it"""

    def settings(self, overrides: Mapping[str, Any]) -> Evaluation:
        """Return the section `evaluation`.

        Raises:
            ConfigError: a key or a value of `overrides` is unknown or invalid.
        """
        try:
            return Evaluation(**{**self.evaluation, **overrides})
        except ValidationError as error:
            faults = (
                f"evaluation.{each['loc'][0] if each['loc'] else ''}: {_explain(each)}"
                for each in error.errors()
            )
            raise ConfigError("\n".join(faults)) from error

    def graph(self, name: str) -> Path:
        """Return the file of a graph that is opened.

        Raises:
            CheckpointError: there is no such graph, or a file of it is missing or damaged.
        """
        if name not in self.graphs:
            raise CheckpointError(
                f"{self.folder} holds no {name}, but {', '.join(self.graphs)}; export it with --format {name}"
            )
        for file, sha in self.graphs[name].files.items():
            path = self.folder / file
            if not path.is_file() or hash_file(path) != sha:
                raise CheckpointError(
                    f"{path} is {'damaged' if path.is_file() else 'missing'}; copy or export the bundle again"
                )
        return self.folder / next(iter(self.graphs[name].files))

    def fastest(self) -> GraphFile | None:
        """Return the fastest graph that can run here and agreed with the checkpoint; None without any."""
        usable = [each for each in self.graphs.values() if each.is_runnable and each.is_proven]
        return min(usable, key=lambda each: float(each.parity["milliseconds"]), default=None)


def _explain(details: ErrorDetails) -> str:
    if details["type"] == "extra_forbidden":
        return "unknown key" + suggest(f"evaluation.{details['loc'][0]}")
    return f"{details['input']!r} is invalid: {details['msg'][:1].lower()}{details['msg'][1:]}"


def is_bundle(path: Path) -> bool:
    """Return whether a path is the folder of a bundle."""
    return (path / BUNDLE_NAME).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in a folder; its graphs are checked when they are opened.

    Raises:
        CheckpointError: it is damaged, or of another version.
    """
    path = folder / BUNDLE_NAME
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} describes no bundle of SliceWise; name a folder of `slicewise export`")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {content.get('version')}, expected {VERSION}; export it again"
        )
    try:
        return _parse(folder, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # ValidationError is a ValueError
        raise CheckpointError(f"{path} is damaged ({error!r:.300}); export it again") from error


def _parse(folder: Path, content: Mapping[str, Any]) -> Bundle:
    model = content["model"]
    graphs = {name: GraphFile(name, **entry) for name, entry in content["graphs"].items()}
    names = [name for each in graphs.values() for name in each.files]
    if not names or not all(map(is_safe_relative, names)):
        raise ValueError(f"files {names}")
    return Bundle(
        folder=folder,
        graphs=graphs,
        model=Model(**model["model"]),
        preprocessing=Preprocessing(**model["preprocessing"]),
        tasks=Tasks(**model["tasks"]),
        **{
            name: model[name]
            for name in ("stage", "metrics", "fingerprint", "data_name", "synthetic", "slot")
        },
        weights_digest=str(model["weights_digest"]),
        source=content["source"],
        evaluation=content["evaluation"],
        points=content["points"],
        reference=_reference(content.get("appearance")),
    )


def _reference(content: Mapping[str, Any] | None) -> TrainingReference | None:
    if content is None:
        return None
    appearance = {
        kind: Appearance(each["num_cases"], {k: tuple(v) for k, v in each["ranges"].items()}, each["shares"])
        for kind, each in content.items()
    }
    return TrainingReference((), appearance)


def find_bundle(checkpoint: Path) -> Bundle | None:
    """Return the bundle that was exported from this very file, in its workspace or beside it.

    Damaged and older bundles are passed over.
    """
    above = checkpoint.absolute().parents
    folders = [above[min(2, len(above) - 1)] / EXPORTS, checkpoint.parent]
    size, sha = checkpoint.stat().st_size if checkpoint.is_file() else -1, ""
    for path in (path for folder in folders for path in sorted(folder.glob(f"*/{BUNDLE_NAME}"))):
        try:
            bundle = read_bundle(path.parent)
        except SliceWiseError:
            continue
        if bundle.source.get("size") == size:
            sha = sha or hash_file(checkpoint)
            if bundle.source.get("sha256") == sha:
                return bundle
    return None
