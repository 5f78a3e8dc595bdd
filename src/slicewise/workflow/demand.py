"""Disk and memory of each step, compared with measurements in docs/explanation/reliability.md."""

from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.core.machine import has_native_bf16
from slicewise.data.sources import open_source
from slicewise.engine.step import Context, Demand
from slicewise.workflow.participants import open_index, select_cases, select_phantom_patients, source_root
from slicewise.workflow.slices import PRELOAD_MIB, read_manifest, slice_store

if TYPE_CHECKING:
    from slicewise.models.multitask import Footprint

_FIGURES_MIB: Final = 10
_SALIENCY_MAP_MIB: Final = 0.3
_PROCESS_MIB: Final = 250  # the process without torch
_TORCH_MIB: Final = 1100  # the process with torch, the packages around it, and what the allocator keeps
_EVALUATOR_MIB: Final = 1350
"""The process with torch, SciPy, scikit-learn, Matplotlib and pytorch-grad-cam, and tables of every slice"""
_GENERATOR_MIB: Final = 400  # one worker that generates patients
_SLICER_MIB: Final = 220  # one worker that slices cases
_FLOAT32: Final = 4
_WEIGHT_COPIES: Final = 4  # weights, gradients, and two moments of AdamW
_BACKWARD_FACTOR: Final = 1.5  # backward pass, relative to the activations that the forward pass keeps
_MODEL_COPIES: Final = 3  # the model, its checkpoint, and the randomised copy (see explain.faithfulness)
_BUFFER_FACTOR: Final = 3
"""Skip connections and buffers of the convolutions, relative to the two largest maps"""
_SLICE_BYTES_PER_PIXEL: Final = 9


def download_demand(context: Context[Config]) -> Demand:
    """Estimate the generation of phantom patients; the size of a download is checked when it is known."""
    from slicewise.data.phantom.patients import BYTES_PER_PATIENT

    config, num_missing = context.config, 0
    for settings in config.data.sources.values():
        if settings.path is None and (known := open_source(settings).known_groups()):
            root = source_root(settings, context.workspace)
            selected = select_phantom_patients(config, settings, known)
            num_missing += sum(not (root / name).is_dir() for name in selected)
    if not num_missing:
        return Demand(memory_bytes=_PROCESS_MIB * MIB, least_memory_bytes=_PROCESS_MIB * MIB)
    return _worker_demand(config, num_missing * BYTES_PER_PATIENT, num_missing, _GENERATOR_MIB)


def preprocess_demand(context: Context[Config]) -> Demand:
    """Estimate the slices of cases without an entry in the store; a changed file is noticed only later."""
    from slicewise.data.preprocess import estimate_bytes

    config, index = context.config, open_index(context)
    entries = slice_store(context.workspace).root.glob("*/*")
    sliced_cases = {(path.parent.name, path.name.rpartition("-")[0]) for path in entries}
    new_cases = [
        case
        for source in config.data.sources.values()
        for case in select_cases(config, source, index)
        if (source.name, case.key.case) not in sliced_cases
    ]
    disk_bytes = sum(estimate_bytes(case, config.preprocessing) for case in new_cases)
    return _worker_demand(config, disk_bytes, len(new_cases), _SLICER_MIB if new_cases else 0)


def split_demand(_context: Context[Config]) -> Demand:
    """Estimate a few tables."""
    return Demand(MIB, _PROCESS_MIB * MIB, _PROCESS_MIB * MIB)


def check_model(config: Config, *, pretrained: bool) -> None:
    """Build the model as training will, before hours are spent on its data.

    `pretrained` weights that are not on this machine are downloaded now.

    Raises:
        ConfigError: it cannot be built, or its weights cannot be had.
    """
    if not pretrained:
        _footprint(config)  # which is wanted later, and kept
        return
    import torch

    from slicewise.models.multitask import MultitaskModel

    with torch.random.fork_rng():
        MultitaskModel(config.model, config.tasks, len(config.preprocessing.channels))


def training_demand(context: Context[Config]) -> Demand:
    """Estimate weights, optimiser, one batch, and the slices held in memory.

    The disk is fullest while `last.pth` is replaced: twice weights and moments, beside best_model.pth.
    """
    config, training = context.config, context.config.training
    size, pixels = _footprint(config), config.preprocessing.image_size**2
    num_slices: int = sum(entry["num_slices"] for entry in read_manifest(context))
    preloaded_bytes = min(num_slices * pixels * _SLICE_BYTES_PER_PIXEL, 2 * PRELOAD_MIB * MIB)
    weights = size.num_weights * _FLOAT32
    in_fp32 = training.precision == "fp32" or (training.precision == "auto" and not has_native_bf16())
    value_bytes = _FLOAT32 if in_fp32 else _FLOAT32 // 2
    slice_bytes = round(size.num_activations * value_bytes * _BACKWARD_FACTOR)
    fixed_bytes = (_TORCH_MIB * MIB) + weights * _WEIGHT_COPIES
    resident_bytes = config.runtime.num_processes * (fixed_bytes + preloaded_bytes)
    return Demand(
        disk_bytes=weights * (2 * (_WEIGHT_COPIES - 1) + 1) + _FIGURES_MIB * MIB,
        memory_bytes=resident_bytes + slice_bytes * training.batch_size,
        least_memory_bytes=fixed_bytes + 2 * slice_bytes,  # batch normalisation needs two slices
        remedy=f"set training.batch_size={max(2, training.batch_size // 2)} with training.accumulate="
        f"{training.accumulate * 2}, a smaller preprocessing.image_size, or a smaller model.encoder",
    )


def evaluation_demand(context: Context[Config]) -> Demand:
    """Estimate the models, one batch of predictions, and the figures."""
    evaluation = context.config.evaluation
    size = _footprint(context.config)
    fixed_bytes = (_EVALUATOR_MIB * MIB) + _MODEL_COPIES * size.num_weights * _FLOAT32
    slice_bytes = _BUFFER_FACTOR * size.peak_activations * _FLOAT32
    return Demand(
        disk_bytes=round((_FIGURES_MIB + evaluation.gradcam_pictures * _SALIENCY_MAP_MIB) * MIB),
        memory_bytes=fixed_bytes + slice_bytes * evaluation.batch_size,
        least_memory_bytes=fixed_bytes + slice_bytes,
        remedy=f"set evaluation.batch_size={max(1, evaluation.batch_size // 2)}",
    )


def _worker_demand(config: Config, disk_bytes: int, num_tasks: int, worker_mib: int) -> Demand:
    """Return the demand of a controller and its workers; a single worker is the controller itself."""
    from slicewise.core.parallel import num_processes

    runtime = config.runtime
    workers = num_processes(runtime.num_workers, runtime.max_worker_memory_mib, max(1, num_tasks))
    least, total = _PROCESS_MIB + worker_mib, _PROCESS_MIB + workers * worker_mib
    return Demand(disk_bytes + MIB, total * MIB, least * MIB, "set runtime.num_workers=1")


def _footprint(config: Config) -> "Footprint":
    from slicewise.models.multitask import measure_footprint

    return measure_footprint(
        config.model, config.tasks, config.preprocessing.image_size, len(config.preprocessing.channels)
    )
