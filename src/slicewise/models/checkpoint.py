"""Self-describing checkpoints: a file that a Predictor needs nothing else for."""

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from slicewise.config.schema import Model, Preprocessing
from slicewise.config.schema.training import StageName
from slicewise.core.errors import CheckpointError
from slicewise.core.files import atomic_write
from slicewise.domain.labels import Modality, Task
from slicewise.models.program import Program, SerializedProgram
from slicewise.models.safe_loading import require_safe_content

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

FORMAT: Final = "slicewise-checkpoint"
VERSION: Final = 1
STATE_FORMAT: Final = "slicewise-training"
"""Of the state from which a stopped stage continues, see `training.state`."""
BEST: Final = "best_model.pth"
_FILE_TYPES: Final = {
    ".json": "a JSON file",
    ".yaml": "a configuration",
    ".csv": "a table",
    ".txt": "a text",
    ".log": "a log",
    ".md": "a text",
    ".html": "a page",
    ".png": "a picture",
    ".onnx": "an ONNX model",
    ".safetensors": "a file of weights alone",
    ".gz": "a compressed file",
    ".nii": "a volume",
    ".zip": "an archive",
}
"""What files of other kinds are, by the end of their names."""
_CLASS_HEAD_PREFIX: Final = "class_head."
_MODEL_DEFAULTS: Final = {"decoder_width": 16}
"""Keys of the model section that older files lack, and what networks had before there was a choice."""
_FIELD_DEFAULTS: Final[Mapping[str, Any]] = {"not_trained": (), "program": None}
"""Fields that older files lack, and what they mean there: nothing was recorded."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and all that is needed to use them."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    weights: dict[str, Tensor]
    model: Model
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    stage: StageName
    metrics: dict[str, float]
    """Validation figures of the epoch that was kept."""
    fingerprint: str
    data_name: str
    synthetic: bool
    """True where the network has seen generated patients only."""
    slot: Modality
    """The modality slot that a picture of unknown sequence fills."""
    not_trained: tuple[Task, ...] = ()
    """Tasks that no stage has taught: the answers to them come from random weights and mean nothing."""
    program: SerializedProgram | None = field(default=None, compare=False, repr=False)
    """The network as calls of torch's functions (`models.program`); None: prediction builds the network."""

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
        try:
            return Program(
                self.program, {name: _to_device(tensor, device) for name, tensor in self.weights.items()}
            )
        except ValueError as error:
            raise CheckpointError(
                f"the program of the {self.stage} checkpoint is damaged or does not fit its weights "
                f"({_shorten(error)}); train again"
            ) from error

    def build(self) -> "MultitaskModel":
        """Return the network with these weights, in evaluation mode; nothing is downloaded.

        Raises:
            CheckpointError: the weights are not those of the model section.
        """
        # It imports every architecture there is, which a program does without.
        from slicewise.models.multitask import build_model

        settings = self.model.model_copy(update={"encoder_weights": None})
        with torch.device("meta"):  # shapes without memory: a section that asks for terabytes costs nothing
            meta_model = build_model(settings)
        _require_fit(meta_model, self)
        model = build_model(settings)
        load_weights(model, self)
        return model.eval()


_CHECKED: Final = TypeAdapter(Checkpoint)
_MESSAGE_CHARACTERS: Final = 400
_SHOWN_FAULTS: Final = 5


def gives_same_masks(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two networks give the same masks to the bit: they differ in the classification head at most."""
    ours, theirs = (
        {
            name: tensor
            for name, tensor in checkpoint.weights.items()
            if not name.startswith(_CLASS_HEAD_PREFIX)
        }
        for checkpoint in (one, other)
    )
    return (
        (one.model, one.preprocessing) == (other.model, other.preprocessing)
        and ours.keys() == theirs.keys()
        and all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    )


def load_weights(model: "MultitaskModel", checkpoint: Checkpoint) -> None:
    """Copy every tensor of the checkpoint into `net`, by name; nothing is skipped.

    Raises:
        CheckpointError: the networks differ; the message names the keys of the model section, or the tensors.
    """
    require_same_model(checkpoint.model, model.settings, f"the {checkpoint.stage} checkpoint")
    _require_fit(model, checkpoint)
    model.load_state_dict(checkpoint.weights, strict=True)


def _require_fit(model: "MultitaskModel", checkpoint: Checkpoint) -> None:
    """Compare names, shapes and types, before any memory is taken or any number converted."""
    expected, loaded = model.state_dict(), checkpoint.weights
    faults = [f"{name} is missing" for name in expected if name not in loaded]
    faults += [f"{name} is not part of it" for name in loaded if name not in expected]
    for name, tensor in loaded.items():
        theirs, ours = _describe_tensor(tensor), _describe_tensor(expected.get(name, tensor))
        if theirs != ours:
            faults.append(f"{name} is {theirs} in the file and {ours} in the network")
    if faults:
        more = f" and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise CheckpointError(
            f"the {checkpoint.stage} checkpoint does not fit the network: "
            f"{'; '.join(faults[:_SHOWN_FAULTS])}{more}; train again"
        )


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a weight as `Predictor` lays out those of a network."""
    floating = tensor.float() if tensor.is_floating_point() else tensor
    layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
    return floating.to(device, memory_format=layout)


def _describe_tensor(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def require_same_model(loaded: Model, expected: Model, what: str) -> None:
    """Raise CheckpointError that names the keys in which two model sections differ.

    `encoder_weights` is left out: where the first weights came from does not change the network.
    """
    ours, theirs = expected.model_dump(), loaded.model_dump()
    differing = [key for key in ours if key != "encoder_weights" and ours[key] != theirs[key]]
    if differing:
        pairs = ", ".join(
            f"model.{key}: {theirs[key]!r} in the file, {ours[key]!r} asked for" for key in differing
        )
        raise CheckpointError(f"{what} holds another model ({pairs}); set these keys alike or train again")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; readers see the old file or the new one, never a part."""
    fields: dict[str, Any] = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    fields["model"] = checkpoint.model.model_dump()
    fields["preprocessing"] = checkpoint.preprocessing.model_dump()
    save_safely(path, {"format": FORMAT, "version": VERSION, **fields})


def load_checkpoint(path: Path, model: Model | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU, and compare it with the `model` asked for, if any.

    Raises:
        CheckpointError: no such file, a damaged or foreign one, or another model's.
    """
    require_checkpoint_file(path)
    content = load_safely(path)
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise CheckpointError(_describe_content(path, content))
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {content.get('version')}, this is {VERSION}; train again"
        )
    checkpoint = _from_fields(path, content)
    if model is not None:
        require_same_model(checkpoint.model, model, str(path))
    return checkpoint


def require_checkpoint_file(path: Path) -> None:
    """Refuse by its name what torch could not read, or would call damaged.

    Raises:
        CheckpointError: a folder, or a file of another kind; says what it is.
    """
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder, and a checkpoint is a file{_suggest_checkpoint(path / BEST)}"
        )
    kind = _FILE_TYPES.get(path.suffix.lower())
    if kind and path.exists():
        raise CheckpointError(
            f"{path} is {kind}, not a checkpoint{_suggest_checkpoint(path.with_name(BEST))}"
        )


def _describe_content(path: Path, content: object) -> str:
    """Say what a file holds that torch could read, and that is no checkpoint."""
    if isinstance(content, Mapping) and content.get("format") == STATE_FORMAT:
        return (
            f"{path} is the training state from which a stopped stage continues, not a checkpoint"
            f"{_suggest_checkpoint(path.with_name(BEST))}"
        )
    what = "weights or another object of torch" if content is not None else "nothing"
    return (
        f"{path} holds {what}, but not the fields of a SliceWise checkpoint (model, preprocessing, ...); "
        "name a best_model.pth below checkpoints/"
    )


def _suggest_checkpoint(best: Path) -> str:
    """Return the advice to name the checkpoint that lies beside, where one does."""
    if best.is_file():
        return f"; name {best}"
    below = best.parent / "checkpoints" / "multitask_joint" / BEST
    return f"; name {below}" if below.is_file() else "; name a best_model.pth below checkpoints/"


def save_safely(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically."""
    with atomic_write(path) as stream:
        torch.save(dict(content), stream)


def load_safely(path: Path) -> Any:
    """Read tensors and plain values; code inside the file is never run (`weights_only`).

    Raises:
        CheckpointError: no such file, or one that cannot be read.
    """
    try:
        _require_uncompressed_archive(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns of the pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
        require_safe_content(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train first or name another checkpoint") from error
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds Python objects, which could run code when read, and was refused; "
            "only checkpoints written by SliceWise are read"
        ) from error
    except Exception as error:  # torch's reader raises whatever a damaged pickle makes Python raise
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({_shorten(error)}); name another file or, if a run "
            "made it, move it aside and train again"
        ) from error
    return content


def _require_uncompressed_archive(path: Path) -> None:
    """Refuse what torch never writes: an archive whose content is larger than the file itself.

    A compressed or overlapping entry could ask for any amount of memory. Files of the format before torch 1.6
    carry sizes that nothing checks, and were never written by SliceWise.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its entries are compressed or larger than the file")


def _shorten(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_MESSAGE_CHARACTERS]


def _from_fields(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    try:
        content = {**_FIELD_DEFAULTS, **content}
        fields = {name: content[name] for name in Checkpoint.__dataclass_fields__}
        model = fields["model"]
        fields["model"] = Model.model_validate(
            {**_MODEL_DEFAULTS, **model} if isinstance(model, dict) else model
        )
        fields["preprocessing"] = Preprocessing.model_validate(fields["preprocessing"])
        checkpoint = _CHECKED.validate_python(fields)
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{path} lacks or misstates {error}; train again with this version") from error
    if not torch.isfinite(torch.cat([tensor.reshape(-1) for tensor in checkpoint.weights.values()])).all():
        name = next(name for name, tensor in checkpoint.weights.items() if not torch.isfinite(tensor).all())
        raise CheckpointError(f"{path} holds NaN or infinity in {name}; train again")
    return checkpoint
