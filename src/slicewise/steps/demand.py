"""How much disk and memory each step is about to take; docs/reliability.md sets measurements beside it."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config
from slicewise.core.processor import has_native_bf16
from slicewise.core.storage import MIB
from slicewise.pipeline.step import Context, Demand
from slicewise.steps.slices import PRELOAD_MIB, read_manifest, slice_store
from slicewise.steps.sources import chosen_cases, chosen_names, open_index, root_of, used_sources

if TYPE_CHECKING:
    from slicewise.models.footprint import Footprint

_FIGURES_MIB: Final = 10
_HEAT_MAP_MIB: Final = 0.3
_START_MIB: Final = 250
"""The process before it has met torch"""
_TORCH_MIB: Final = 1100
"""The process with torch, its companions, and what the allocator keeps"""
_EVALUATOR_MIB: Final = 1350
"""The process with torch, SciPy, scikit-learn, Matplotlib and pytorch-grad-cam, and tables of every slice"""
_GENERATOR_MIB: Final = 400
"""One worker that generates patients"""
_SLICER_MIB: Final = {"nifti": 220, "lgg": 200, "picture": 200}
"""One worker that slices cases of a kind"""
_FLOAT32: Final = 4
_OPTIMIZED_COPIES: Final = 4
"""Weights, gradients, and two moments of AdamW"""
_BACKWARD: Final = 1.5
"""The way back needs this much of what the way there has kept"""
_NETWORKS: Final = 3
"""The network, the checkpoint it came from, and the copy that forgets (see inference.randomised)"""
_BETWEEN: Final = 3
"""Skipped maps and the convolutions' own buffers, in units of the two largest maps"""
_FEWER_WORKERS: Final = "set runtime.num_workers=1"
_SLICE_BYTES_PER_PIXEL: Final = 9


def of_download(context: Context[Config]) -> Demand:
    """Estimate the generation of virtual patients; a download is asked for once its size is known."""
    from slicewise.data.sources.phantom import BYTES_PER_PATIENT, missing_patients, patient_name
    from slicewise.data.workers import num_processes

    config, source = context.config, context.config.data.volumes
    if source.kind != "phantom" or source.path:
        return Demand(memory_bytes=_START_MIB * MIB, least_memory_bytes=_START_MIB * MIB)
    numbers = {patient_name(number): number for number in range(1, source.phantom_patients + 1)}
    chosen = chosen_names(config, source, numbers)
    missing = missing_patients(root_of(source, context.workspace), [numbers[name] for name in chosen])
    workers = num_processes(
        config.runtime.num_workers, config.runtime.max_worker_memory_mib, max(1, len(missing))
    )
    return _spread(len(missing) * BYTES_PER_PATIENT, workers, _GENERATOR_MIB if missing else 0)


def of_preprocess(context: Context[Config]) -> Demand:
    """Estimate the slices of cases that were never sliced; exactly so once their files are compared."""
    from slicewise.data.preprocess import estimated_bytes
    from slicewise.data.workers import num_processes

    config = context.config
    index = open_index(context)
    known = _sliced(slice_store(context.workspace).root)
    new = []
    for source in used_sources(config):
        chosen = chosen_cases(config, source, index)
        new += [case for case in chosen if (source.name, case.key.case) not in known]
    workers = num_processes(
        config.runtime.num_workers, config.runtime.max_worker_memory_mib, max(1, len(new))
    )
    each = max((_SLICER_MIB[case.kind] for case in new), default=0)
    return _spread(sum(estimated_bytes(case, config.preprocessing) for case in new), workers, each)


def of_split(_context: Context[Config]) -> Demand:
    """Estimate a few tables."""
    return Demand(MIB, _START_MIB * MIB, _START_MIB * MIB)


def of_training(context: Context[Config]) -> Demand:
    """Estimate weights, optimiser, one batch, and the slices held in memory.

    The disk is fullest while `last.pth` is replaced: twice weights and moments, beside best_model.pth.
    """
    config = context.config
    size, training = _footprint(config), config.training
    weights = size.num_weights * _FLOAT32
    in_fp32 = training.precision == "fp32" or (training.precision == "auto" and not has_native_bf16())
    value_bytes = _FLOAT32 if in_fp32 else _FLOAT32 // 2
    one = round(size.num_kept * value_bytes * _BACKWARD)
    held = (_TORCH_MIB * MIB) + weights * _OPTIMIZED_COPIES
    return Demand(
        disk_bytes=weights * (2 * (_OPTIMIZED_COPIES - 1) + 1) + _FIGURES_MIB * MIB,
        memory_bytes=held + one * training.batch_size + _preloaded(context),
        least_memory_bytes=held + 2 * one,  # batch normalisation needs two slices
        remedy=f"set training.batch_size={max(2, training.batch_size // 2)} with training.accumulate="
        f"{training.accumulate * 2}, a smaller preprocessing.image_size, or a smaller model.encoder",
    )


def of_evaluation(context: Context[Config]) -> Demand:
    """Estimate the networks, one batch of predictions, and the figures."""
    evaluation = context.config.evaluation
    size = _footprint(context.config)
    held = (_EVALUATOR_MIB * MIB) + _NETWORKS * size.num_weights * _FLOAT32
    one = _BETWEEN * size.num_alive * _FLOAT32
    return Demand(
        disk_bytes=round((_FIGURES_MIB + evaluation.gradcam_pictures * _HEAT_MAP_MIB) * MIB),
        memory_bytes=held + one * evaluation.batch_size,
        least_memory_bytes=held + one,
        remedy=f"set evaluation.batch_size={max(1, evaluation.batch_size // 2)}",
    )


def _spread(disk_bytes: int, workers: int, worker_mib: int) -> Demand:
    """A controller and its workers; one worker is the controller itself."""
    least = (_START_MIB + worker_mib) * MIB
    total = least if workers == 1 else (_START_MIB + workers * worker_mib) * MIB
    return Demand(disk_bytes + MIB, total, least, _FEWER_WORKERS)


def _sliced(root: Path) -> set[tuple[str, str]]:
    """Return (source, case) of every entry in the slice store, whatever its settings were."""
    return {(path.parent.name, path.name.rpartition("-")[0]) for path in root.glob("*/*")}


def _footprint(config: Config) -> "Footprint":
    from slicewise.models.footprint import measure

    return measure(config.model, config.preprocessing.image_size)


def _preloaded(context: Context[Config]) -> int:
    size = context.config.preprocessing.image_size
    slices: int = sum(entry["num_slices"] for entry in read_manifest(context))
    return min(slices * size**2 * _SLICE_BYTES_PER_PIXEL, 2 * PRELOAD_MIB * MIB)
