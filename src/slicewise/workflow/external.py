"""The external test of a trained model: its configuration, the cases that may be tested, the evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config
from slicewise.config.schema.sources import settings_type
from slicewise.core.errors import ConfigError, DataError
from slicewise.core.files import read_json, write_json
from slicewise.engine.step import Context
from slicewise.workflow.slices import read_manifest, slice_store

if TYPE_CHECKING:
    from slicewise.data.store import StoredCase
    from slicewise.evaluation.threshold_selection import ThresholdSelection
    from slicewise.inference.pipeline import Pipeline
    from slicewise.models.checkpoint import Checkpoint

MODEL_SECTIONS: Final = ("preprocessing", "tasks", "model", "stages", "training", "recipes", "recipe")
"""What the checkpoint decides, and the command line cannot set"""
TESTED_NAME: Final = "tested.json"
DIFFERENCES_NAME: Final = "differences.json"
_SHOWN: Final = 5


def compose_external(overrides: Sequence[str], checkpoint: "Checkpoint", name: str) -> Config:
    """Return the configuration of a test of this model; `name` is how the user calls it.

    Raises:
        ConfigError: an override is wrong, or the data do not suit the model.
    """
    from slicewise.config.compose import compose

    for word in overrides:
        key = word.partition("=")[0].lstrip("+~")
        if key.partition(".")[0] in MODEL_SECTIONS or (key.startswith("split.") and key != "split.overlap"):
            raise ConfigError(f"{key} is decided by the model in {name}, or has no effect; leave it out")
    try:
        return compose(overrides, adapt=lambda tree: _adapt(tree, checkpoint))
    except ConfigError as error:
        raise ConfigError(f"a test of the model in {name}: {error}") from error


def _adapt(tree: dict[str, Any], checkpoint: "Checkpoint") -> None:
    """Set the sections that the model decides, and use all of the data."""
    tasks = checkpoint.tasks.model_dump()
    sources = {key: each for key, each in tree["data"]["sources"].items() if isinstance(each, Mapping)}
    if tasks["classification"] and not any(_has_masks(each.get("kind")) for each in sources.values()):
        tasks["segmentation"] = None  # nothing to compare its masks with
    trained = {
        "segmentation": float(bool(tasks["segmentation"])),
        "classification": float(bool(tasks["classification"])),
    }
    tree["tasks"], tree["model"] = tasks, checkpoint.model.model_dump()
    tree["preprocessing"] = checkpoint.preprocessing.model_dump()
    tree["training"]["mask_loss"] = {"dice": 1.0}
    tree["stages"] = {
        checkpoint.stage: {
            "starts_from": None,
            "epochs": 1,
            "iterations_per_epoch": None,
            "frozen_statistics": False,
            "monitor": "last",
            "patience": 0,
            "min_delta": 0.0,
            "objective": trained,
            "learning_rates": {
                "encoder": 1.0,
                "decoder": trained["segmentation"],
                "head": trained["classification"],
            },
            "sources": dict.fromkeys(sources, 1.0),
        }
    }
    tree["scale"]["fraction"] = 1.0
    tree["split"] |= {"external": True, "folders": False}


def _has_masks(kind: Any) -> bool:
    try:
        return bool(settings_type(kind).has_masks)
    except (ConfigError, KeyError, TypeError):  # composing reports it
        return False


def select_tested(path: Path, context: Context[Config]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write the cases that may be tested; return metrics and notes.

    Raises:
        DataError: the model was trained on some patients, or no case has a mask or a label.
    """
    from slicewise.data.reference import known_patients
    from slicewise.models.checkpoint import load_checkpoint

    store, reference = slice_store(context.workspace), load_checkpoint(path).reference
    entries = read_manifest(context)
    cases = [store.open(entry["entry"]) for entry in entries]
    _require_labels(cases)
    known = {} if reference is None else known_patients(reference, cases)
    if known and context.config.split.overlap == "refuse":
        raise DataError(_explain_known(known, {(case.key.source, case.group) for case in cases}))
    tested = [entry for entry in entries if (entry["source"], entry["group"]) not in known]
    if not tested:
        raise DataError(f"the model was trained on every patient here ({len(known)}); test it on others")
    left_out = {f"{source}/{group}": reason for (source, group), reason in sorted(known.items())}
    content = {"tested": [entry["entry"] for entry in tested], "left_out": left_out}
    write_json(context.out("split") / TESTED_NAME, content)
    groups = {(entry["source"], entry["group"]) for entry in tested}
    counts = {
        source: {"train": 0, "val": 0, "test": sum(each == source for each, _ in groups)}
        for source in sorted({source for source, _ in groups})
    }
    notes = [f"left out, because the model was trained on them: {_listed(known)}"] if known else []
    if reference is None or not reference.patients:
        notes.append(
            "the checkpoint does not remember its training patients (it was published, or is of an older "
            "version): nobody could be compared with them"
        )
    return {"counts": counts, "left_out": left_out}, tuple(notes)


def _require_labels(cases: "Sequence[StoredCase]") -> None:
    if unlabelled := [str(case.key) for case in cases if (case.labels < 0).any()]:
        raise DataError(
            f"{len(unlabelled)} of {len(cases)} cases have neither a mask nor a label "
            f"({', '.join(unlabelled[:_SHOWN])}); a test needs them: add the masks, take these cases out, or "
            "use `slicewise predict`"
        )


def _explain_known(known: Mapping[tuple[str, str], str], groups: set[tuple[str, str]]) -> str:
    others = len(groups) - len(known)
    return (
        f"the model was trained on {len(known)} of the {len(groups)} patients here: {_listed(known)}. Scores "
        "on them would be too good. Take them out of the folder"
        + (f", or test the other {others} with split.overlap=exclude" if others else "")
        + "; where another patient has the same name by chance, rename the folder"
    )


def _listed(known: Mapping[tuple[str, str], str]) -> str:
    names = [f"{source}/{group} ({reason})" for (source, group), reason in sorted(known.items())]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def evaluate_external(
    path: Path, fixed: Mapping[str, Any], context: Context[Config]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write every output of the evaluation; return its metrics and notes.

    Calibration, thresholds and post-processing are those that were selected for the model; keys in `fixed`
    hold in place of them. Nothing is selected on the tested cases.
    """
    from slicewise.evaluation.held_out import evaluate_held_out
    from slicewise.evaluation.report import headlines
    from slicewise.inference.operating_points import CALIBRATION_NAME
    from slicewise.inference.pipeline import Pipeline
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.workflow.evaluation import case_outputs, write_results

    config, store = context.config, slice_store(context.workspace)
    pipeline = Pipeline.load(
        path, backend="torch", device=config.runtime.device, settings=config.evaluation, **fixed
    )
    tested = read_json(context.home("split", "split") / TESTED_NAME)["tested"]
    cases = [store.open(entry) for entry in tested]
    selection = _selected(pipeline, config)
    write_json(context.out("evaluation") / CALIBRATION_NAME, selection.to_json())
    outputs = case_outputs(pipeline, cases, "evaluate")
    held_out = evaluate_held_out(outputs, selection, config.evaluation, config.seed, (*pipeline.tasks,))
    checkpoint = pipeline.checkpoints[0]
    assert isinstance(checkpoint, Checkpoint)
    metrics = write_results(context, pipeline, cases, held_out, checkpoint.stage)
    metrics["headlines"] = headlines(metrics)
    metrics["model"] = pipeline.to_json()
    notes = _write_differences(context, checkpoint, cases)
    return metrics, tuple(notes)


def _selected(pipeline: "Pipeline", config: Config) -> "ThresholdSelection":
    """Return what was selected for the model, for the sources of the test."""
    from slicewise.evaluation.threshold_selection import SourceSelection, ThresholdSelection
    from slicewise.inference.postprocess import Postprocessing

    sources = {}
    for source in config.data.sources.values():
        point = pipeline.points.of(source.unit)
        validation = {"population": "patients of the training"}
        sources[source.name] = SourceSelection(point.postprocessing, {}, (point.origin,), validation)
    return ThresholdSelection(sources, Postprocessing.configured(config.evaluation))


def _write_differences(
    context: Context[Config], checkpoint: "Checkpoint", cases: "Sequence[StoredCase]"
) -> list[str]:
    """Write how the cases differ from those of the training; return the notable differences as notes."""
    from slicewise.data.reference import compare_with_training

    if checkpoint.reference is None:
        return ["the checkpoint does not remember how its training cases looked; nothing could be compared"]
    rows = compare_with_training(checkpoint.reference, cases)
    content = {
        "training": checkpoint.data_name,
        "synthetic": checkpoint.synthetic,
        "patients_known": bool(checkpoint.reference.patients),
        "rows": [*map(asdict, rows)],
    }
    write_json(context.out("evaluation") / DIFFERENCES_NAME, content)
    return [f"unlike the training: {row.describe()}" for row in rows if row.notable]
