"""Which backend runs a model: the fastest one proven to agree with its checkpoint, or the named one."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Evaluation
from slicewise.core.errors import UsageError
from slicewise.inference.backends import BACKENDS, Member
from slicewise.inference.graph_backend import GraphBackend
from slicewise.runtime.bundle import RUNNERS, Bundle, find_bundle, is_bundle, read_bundle

if TYPE_CHECKING:
    from slicewise.compute.device import DeviceName
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.models.multitask import MultitaskModel

_NVIDIA: Final = Path("/proc/driver/nvidia/version")

log = logging.getLogger(__name__)


def load_models(
    paths: Sequence[Path], backend: str, device: str
) -> "tuple[Sequence[Checkpoint | Bundle], str]":
    """Return what is at these paths, and the backend that runs it.

    With `auto` or a backend of exported graphs, the bundle that was exported from a checkpoint stands for it;
    an ensemble, and a machine with a GPU, have torch.

    Raises:
        CheckpointError: a file is missing, damaged or no checkpoint.
        UsageError: nothing was exported for the backend, or bundles and checkpoints are mixed.
    """
    if any(map(is_bundle, paths)):
        return _load_bundles(paths, backend)
    is_graph = backend.partition("_")[0] in RUNNERS
    if len(paths) == 1 and (is_graph or (backend == "auto" and _is_cpu(device))):
        bundle = find_bundle(paths[0])
        chosen = None
        if bundle is not None:
            chosen = bundle.graphs.get(backend) if is_graph else bundle.fastest()
        if bundle is not None and chosen is not None:
            log.info("%s runs as %s of %s", paths[0], chosen.name, bundle.folder)
            return [bundle], chosen.name
        if is_graph:
            raise UsageError(
                f"nothing was exported from {paths[0]} for the backend {backend}; run "
                f"`slicewise export {paths[0]} --format {backend.partition('_')[0]}`, or use torch"
            )
        log.info("%s runs in torch; `slicewise export %s` makes it faster", paths[0], paths[0])
    from slicewise.models.checkpoint import load_checkpoint

    return [load_checkpoint(path) for path in paths], "torch" if backend == "auto" else backend


def _load_bundles(paths: Sequence[Path], backend: str) -> "tuple[Sequence[Bundle], str]":
    if not all(map(is_bundle, paths)):
        raise UsageError("an ensemble is of checkpoints, or of bundles, not of both; name one kind")
    bundles = [read_bundle(path) for path in paths]
    if backend == "auto":
        fastest = bundles[0].fastest()
        # On another kind of processor than that of the export its fp32 graphs are used all the same.
        names = [each.name for each in bundles[0].graphs.values() if each.is_runnable]
        backend = fastest.name if fastest else next(iter(names or bundles[0].graphs))
    if backend.partition("_")[0] not in RUNNERS:
        raise UsageError(
            f"{paths[0]} is a bundle, which {backend} does not run; name its checkpoint, or a backend of "
            f"{', '.join(RUNNERS)}"
        )
    return bundles, backend


def _is_cpu(device: str) -> bool:
    """Return whether `runtime.device` means the CPU; torch, which knows, is not imported for that."""
    return device == "cpu" or (device == "auto" and not _NVIDIA.exists() and sys.platform != "darwin")


def make_members(
    models: "Sequence[Checkpoint | Bundle]", backend: str, device: "DeviceName", num_threads: int
) -> tuple[list[Member], str]:
    """Return what runs each model, and the device.

    Raises:
        UsageError: the machine has no such device, or a package is missing.
    """
    if bundles := [each for each in models if isinstance(each, Bundle)]:
        return [GraphBackend(each, num_threads, backend) for each in bundles], "cpu"
    from slicewise.compute.device import choose_device

    chosen, make = choose_device(device), BACKENDS[backend]
    return [make(each, chosen) for each in models], str(chosen)


def settings_for(
    model: "Checkpoint | Bundle", settings: Evaluation | None, overrides: dict[str, Any]
) -> Evaluation:
    """Return the section `evaluation` for a model, with overrides, without those that its tasks exclude."""
    if settings is None and isinstance(model, Bundle):
        settings = model.settings(overrides)
    elif settings is None:
        from slicewise.config.compose import compose

        settings = compose([f"evaluation.{key}={value}" for key, value in overrides.items()]).evaluation
    settings = settings.model_copy(update=overrides).suited_to(model.tasks.classification)
    if settings.class_threshold is None:
        overrides.pop("class_threshold", None)
    return settings


def model_of(
    member: Member, described: "Checkpoint | Bundle", paths: Sequence[Path], device: str
) -> "MultitaskModel":
    """Return the model itself, for uses beyond prediction (Grad-CAM).

    Raises:
        UsageError: a bundle was named itself, without its checkpoint.
    """
    import torch

    from slicewise.inference.torch_backend import Torch
    from slicewise.models.checkpoint import load_checkpoint

    if isinstance(member, Torch):
        return member.model
    if isinstance(described, Bundle):
        if not paths or is_bundle(paths[0]):
            raise UsageError(
                f"{described.folder} is a bundle, and this needs the model itself; name its checkpoint"
            )
        described = load_checkpoint(paths[0])
    return Torch(described, torch.device(device)).model
