"""Checkpoints: weights with everything that prediction needs, and their comparison with a model."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from slicewise.config.schema import Model, Preprocessing, Tasks
from slicewise.config.schema.model import TaskName
from slicewise.core.errors import CheckpointError
from slicewise.domain.reference import TrainingReference
from slicewise.models import safetensors_file
from slicewise.models.program import Program, SerializedProgram
from slicewise.models.safe_loading import describe_error, load_safely, save_safely
from slicewise.tasks.build import make_tasks

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

CHECKPOINT_NAME: Final = "best_model.pth"
STATE_FORMAT: Final = "slicewise-training"
"""Format of `last.pth`, see `training.state`"""
_FORMAT: Final = "slicewise-checkpoint"
_VERSION: Final = 2
_OTHER_FILES: Final = (
    *(".json", ".yaml", ".csv", ".txt", ".log", ".md", ".html"),
    *(".png", ".onnx", ".gz", ".nii", ".zip"),
)
"""Endings of files that are no checkpoints"""
_SAFETENSORS: Final = ".safetensors"
_HEAD_PREFIXES: Final[dict[TaskName, str]] = {"segmentation": "mask_head.", "classification": "class_head."}
_MAX_MISMATCHES: Final = 5


@dataclass(frozen=True)
class Checkpoint:
    """Weights and all that is needed to use them."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    weights: dict[str, Tensor]
    model: Model
    preprocessing: Preprocessing
    tasks: Tasks
    """What the model predicts: the tasks trained by this stage or before it. `weights` may hold the untrained
    head of another one, with which the next stage begins."""
    stage: str
    metrics: dict[str, float]
    """Validation metrics of the selected epoch"""
    fingerprint: str
    data_name: str
    synthetic: bool
    """Whether the model was trained on generated patients only"""
    slot: str
    """The channel that a picture of unknown sequence fills"""
    reference: TrainingReference | None = field(default=None, compare=False, repr=False)
    """The cases it was trained on: hashes of who they were, and how they look; None in older files"""
    program: SerializedProgram | None = field(default=None, compare=False, repr=False)
    """The forward pass as calls of torch's functions (`models.program`); None: the model has to be built"""

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights: trained again with other threads, the same `fingerprint` has others."""
        sha = hashlib.sha256()
        for name, tensor in sorted(self.weights.items()):
            sha.update(f"{name} {_describe_tensor(tensor)}\n".encode())
            sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return sha.hexdigest()

    def build_program(self, device: torch.device) -> Program | None:
        """Return the program with these weights in fp32 on a device, or None where there is none.

        Raises:
            CheckpointError: it is damaged, or does not fit the weights.
        """
        if self.program is None:
            return None
        weights = {}
        for name, tensor in self.weights.items():
            layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
            floating = tensor.float() if tensor.is_floating_point() else tensor
            weights[name] = floating.to(device, memory_format=layout)
        try:
            channels = {name: task.num_channels for name, task in make_tasks(self.tasks).items()}
            return Program(self.program, weights, channels)
        except ValueError as error:
            raise CheckpointError(
                f"the program of the {self.stage} checkpoint is damaged or does not fit its weights "
                f"({describe_error(error)}); train again"
            ) from error

    def build(self) -> "MultitaskModel":
        """Return the model of the tasks with these weights, in evaluation mode; nothing is downloaded.

        Raises:
            CheckpointError: the weights are not those of the model section.
        """
        # It imports every architecture there is, which a program does without.
        from slicewise.models.multitask import MultitaskModel

        settings = self.model.model_copy(update={"encoder_weights": None})
        channels = len(self.preprocessing.channels)
        with torch.device("meta"):  # shapes without memory: settings that need terabytes cost nothing
            _require_fit(MultitaskModel(settings, self.tasks, channels), self._trained)
        model = MultitaskModel(settings, self.tasks, channels)
        load_weights(model, self._trained)
        return model.eval()

    @property
    def _trained(self) -> Self:
        """This checkpoint without the heads of other tasks."""
        others = tuple(prefix for task, prefix in _HEAD_PREFIXES.items() if task not in self.tasks.names)
        kept = {name: tensor for name, tensor in self.weights.items() if not name.startswith(others)}
        return replace(self, weights=kept)


_CHECKED: Final = TypeAdapter(Checkpoint)


def gives_same_masks(first: Checkpoint, second: Checkpoint) -> bool:
    """Whether two models predict the same masks: they differ in the classification head at most."""
    head = _HEAD_PREFIXES["classification"]
    first_weights, second_weights = (
        {name: tensor for name, tensor in each.weights.items() if not name.startswith(head)}
        for each in (first, second)
    )
    return (
        (first.model, first.preprocessing, first.tasks.segmentation)
        == (second.model, second.preprocessing, second.tasks.segmentation)
        and first_weights.keys() == second_weights.keys()
        and all(torch.equal(tensor, second_weights[name]) for name, tensor in first_weights.items())
    )


def load_weights(model: "MultitaskModel", checkpoint: Checkpoint) -> None:
    """Copy every tensor of the checkpoint into `model`, by name; nothing is skipped.

    Raises:
        CheckpointError: the models differ; names the keys of the model section, or the tensors.
    """
    what = f"the {checkpoint.stage} checkpoint"
    _require_same_model(checkpoint.model, model.settings, what)
    for name in checkpoint.tasks.names:
        stored, task = getattr(checkpoint.tasks, name), model.tasks.get(name)
        if task is None or task.settings != stored:
            raise CheckpointError(
                f"{what} has another tasks.{name} ({stored}; configured: {task and task.settings}); set it "
                "alike or train again"
            )
    _require_fit(model, checkpoint)
    model.load_state_dict(checkpoint.weights, strict=True)


def _require_fit(model: "MultitaskModel", checkpoint: Checkpoint) -> None:
    """Compare names, shapes and types, before any memory is taken or any number converted."""
    expected, loaded = model.state_dict(), checkpoint.weights
    mismatches = [f"{name} is missing" for name in expected if name not in loaded]
    mismatches += [f"{name} is not part of it" for name in loaded if name not in expected]
    for name in (name for name in loaded if name in expected):
        in_file, in_model = _describe_tensor(loaded[name]), _describe_tensor(expected[name])
        if in_file != in_model:
            mismatches.append(f"{name} is {in_file} in the file and {in_model} in the model")
    if mismatches:
        more = len(mismatches) - _MAX_MISMATCHES
        raise CheckpointError(
            f"the {checkpoint.stage} checkpoint does not fit the model: "
            f"{'; '.join(mismatches[:_MAX_MISMATCHES])}{f' and {more} more' if more > 0 else ''}; train again"
        )


def _describe_tensor(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _require_same_model(loaded: Model, expected: Model, what: str) -> None:
    """Raise CheckpointError that names the keys in which two model sections differ.

    `encoder_weights` is left out: where the initial weights came from does not change the model.
    """
    configured, stored = expected.model_dump(), loaded.model_dump()
    pairs = ", ".join(
        f"model.{key}: {stored[key]!r} in the file, {value!r} configured"
        for key, value in configured.items()
        if key != "encoder_weights" and value != stored[key]
    )
    if pairs:
        raise CheckpointError(f"{what} holds another model ({pairs}); set these keys alike or train again")


def _interned(value: Any) -> Any:
    """Return a value in which equal texts are one object.

    A pickle notes which are, and they are not the same where a configuration was composed and where it was
    kept: the same checkpoint would have other bytes.
    """
    if type(value) is dict:
        return {key: _interned(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_interned, value))
    return sys.intern(value) if type(value) is str else value


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; readers see the old file or the new one, never a part.

    A path that ends in .safetensors gets `config.json` beside it, see `models.safetensors_file`.
    """
    fields: dict[str, Any] = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    fields |= {name: fields[name].model_dump() for name in ("model", "preprocessing", "tasks")}
    fields["reference"] = None if checkpoint.reference is None else asdict(checkpoint.reference)
    content = _interned({"format": _FORMAT, "version": _VERSION, **fields})
    if path.suffix == _SAFETENSORS:
        safetensors_file.save_weights(path, content)
    else:
        save_safely(path, content)


def load_checkpoint(
    path: Path, model: Model | None = None, channels: tuple[str, ...] | None = None
) -> Checkpoint:
    """Read a checkpoint onto the CPU, and compare it with `model` and `channels` where they are given.

    `path` is a `best_model.pth`, a `model.safetensors`, or a folder with the latter.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or holds another model.
    """
    content = _read(path)
    kind, version = map(content.get, ("format", "version")) if isinstance(content, Mapping) else (None, None)
    if kind == STATE_FORMAT:
        raise _not_a_checkpoint(path, "the training state from which a stopped stage resumes")
    if kind != _FORMAT:
        raise CheckpointError(
            f"{path} lacks the fields of a SliceWise checkpoint (model, preprocessing, ...); "
            f"name a {CHECKPOINT_NAME} below checkpoints/"
        )
    if version != _VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, expected {_VERSION}: an earlier format lacks the tasks "
            "and channels of the model; train again"
        )
    checkpoint = _parse_fields(path, content)
    if model is not None:
        _require_same_model(checkpoint.model, model, str(path))
    stored = checkpoint.preprocessing.channels
    if channels not in (None, stored):
        raise CheckpointError(
            f"{path} is a model of other channels; set preprocessing.channels=[{','.join(stored)}], or train "
            "again"
        )
    return checkpoint


def _read(path: Path) -> Any:
    """Return the content of a file, or of a folder that holds `model.safetensors`."""
    weights = path / safetensors_file.WEIGHTS_NAME
    if path.is_dir() and not weights.is_file():
        raise _not_a_checkpoint(path, "a folder", path / CHECKPOINT_NAME)
    path = weights if path.is_dir() else path
    if path.suffix == _SAFETENSORS:
        return safetensors_file.load_weights_and_config(path)
    if path.suffix.lower() in _OTHER_FILES and path.exists():
        raise _not_a_checkpoint(path, f"a {path.suffix.lower()} file")
    return load_safely(path)


def _not_a_checkpoint(path: Path, kind: str, best: Path | None = None) -> CheckpointError:
    """Return the error that says what `path` is, and names the checkpoint nearby, by default beside it."""
    best = best or path.with_name(CHECKPOINT_NAME)
    below = best.parent.glob(f"checkpoints/*/{CHECKPOINT_NAME}")
    nearby = [best] if best.is_file() else sorted(below, key=lambda each: each.stat().st_mtime)[-1:]
    existing = str(nearby[0]) if nearby else f"a {CHECKPOINT_NAME} below checkpoints/"
    return CheckpointError(f"{path} is {kind}, not a checkpoint; name {existing}")


def _parse_fields(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    try:
        checkpoint = _CHECKED.validate_python(
            {name: content[name] for name in Checkpoint.__dataclass_fields__ if name != "reference"}
            | {"reference": content.get("reference")}
        )
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{path} lacks or misstates {error}; train again with this version") from error
    if not torch.isfinite(torch.cat([tensor.reshape(-1) for tensor in checkpoint.weights.values()])).all():
        name = next(name for name, tensor in checkpoint.weights.items() if not torch.isfinite(tensor).all())
        raise CheckpointError(f"{path} holds NaN or infinity in {name}; train again")
    return checkpoint
