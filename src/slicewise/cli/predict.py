"""`slicewise predict PATH...`: predict on volumes and pictures with a trained model."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.cli.options import (
    add_workspace_option,
    workspace_from,
)
from slicewise.cli.prediction_outputs import CSV_NAME, JSON_NAME, RESULTS, PredictionOutputs
from slicewise.cli.prediction_settings import PredictionSettings
from slicewise.config.keys import closest_match
from slicewise.core.console import print_error, progress, say
from slicewise.core.disk import expand_user
from slicewise.core.errors import DataError, UsageError
from slicewise.core.machine import keep_freed_memory
from slicewise.data.problems import describe_problems
from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING
from slicewise.domain.tables import plural
from slicewise.domain.wording import reword, wording
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.cli.prediction_truth import Truth
    from slicewise.config.schema import Config
    from slicewise.data.cases import CaseFiles
    from slicewise.inference.pipeline import Pipeline
    from slicewise.inference.prediction import Prediction
    from slicewise.inference.prediction_rows import PredictionRow

_SHORT: Final = {
    "--device": ("NAME", "runtime.device", "auto, cpu, cuda or mps"),
    "--batch-size": ("N", "evaluation.batch_size", "slices at a time"),
}
"""Option -> its value, the key that it sets, and its help"""
_MIN_PICTURES_TO_MEASURE: Final = 16
"""From so many on, a measurement of the number of threads pays"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "slicewise predict PATH [PATH ...] [options] [key=value ...]"
    parser.add_argument(
        "words",
        nargs="+",
        metavar="PATH",
        help="a patient's folder, a volume, DICOM series, a picture, or a folder of these; also key=value of "
        "the configuration, e.g. runtime.device=cpu or evaluation.flips=true",
    )
    add_workspace_option(parser)
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="the model (default: the one evaluated last in the workspace)",
    )
    ensemble_help = "the models of all folds (run --folds N): their mean"
    models.add_argument("--ensemble", action="store_true", help=ensemble_help)
    _add_output_options(parser)
    _add_inference_options(parser)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    out_help = f"where to write (default: <workspace>/{RESULTS})"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out_help)
    no_overlay_help = "write no picture of the mask over the image"
    parser.add_argument("--no-overlay", action="store_true", help=no_overlay_help)
    maps_help = "also write the probability of each pixel: NIfTI, or PNG of 16 bits, where 65535 is 1"
    parser.add_argument("--probability-maps", action="store_true", help=maps_help)
    no_seg_help = "write no DICOM-SEG beside the mask of a case that was read from DICOM"
    parser.add_argument("--no-dicom-seg", action="store_true", help=no_seg_help)
    uncertainty_help = "also write how far augmentations, or the models of an ensemble, differ at each pixel"
    parser.add_argument("--uncertainty", action="store_true", help=uncertainty_help)
    submission_help = "also write run-length encoded masks, a line per image and class, for Kaggle"
    parser.add_argument("--submission", type=Path, metavar="FILE", help=submission_help)
    json_help = f"print what {JSON_NAME} holds; the lines for people go to the error output"
    parser.add_argument("--json", action="store_true", help=json_help)
    truth_help = "compare with this mask, or with those in this folder that are named like the cases"
    parser.add_argument("--truth", type=Path, metavar="PATH", help=truth_help)


def _add_inference_options(parser: argparse.ArgumentParser) -> None:
    modality_help = "modality of files whose names do not state one: a channel of the model, such as flair"
    parser.add_argument("--modality", metavar="NAME", help=modality_help)
    for option, (metavar, key, text) in _SHORT.items():
        parser.add_argument(option, metavar=metavar, help=f"{text} (short for {key})")
    backend_help = (
        "what runs the model: torch, or onnx or openvino of its export (default: the fastest proven)"
    )
    parser.add_argument("--backend", default="auto", metavar="NAME", help=backend_help)
    strict_help = "refuse a case that does not look like what the model learned, instead of a warning"
    parser.add_argument("--strict", action="store_true", help=strict_help)
    strip_help = "remove the skull of volumes first (extra `raw`)"
    parser.add_argument("--skull-strip", action="store_true", help=strip_help)
    tta_help = "average over the image and its mirror image (short for evaluation.flips=true)"
    parser.add_argument("--tta", action="store_true", help=tta_help)


def execute(args: argparse.Namespace) -> int:
    if not args.json:
        return _predict(args)[0]
    with redirect_stdout(sys.stderr):
        code, content = _predict(args)
    if content is not None:
        say(json.dumps(content, indent=2))
    return code


def _predict(args: argparse.Namespace) -> tuple[int, dict[str, Any] | None]:
    """Predict and write; return the exit code, and the content of the JSON unless every case failed."""
    workspace = workspace_from(args)
    paths, overrides = _split_words(args.words)
    overrides += _short_overrides(args, overrides)
    outputs = PredictionOutputs.of(args, workspace)
    checkpoint = _given_checkpoint(args)
    settings = PredictionSettings.of(args, checkpoint, overrides)
    pipeline = _load_pipeline(workspace, args, checkpoint, settings, overrides)
    channels = pipeline.checkpoints[0].preprocessing.channels
    if args.modality is not None and args.modality not in channels:
        guess = closest_match(args.modality, channels)
        advice = f"did you mean {guess}? " if guess else ""
        raise UsageError(f"--modality {args.modality}: {advice}the model has {', '.join(channels)}")
    cases, problems = pipeline.find(paths, args.modality)
    if not cases:
        raise UsageError(f"no case to predict on: {'; '.join(map(str, problems))}")
    rows = [
        _failed(pipeline, problem.path.name, problem.path, None, problem)
        for problem in problems
        if problem.severity == "error"
    ]
    if warnings := [problem for problem in problems if problem.severity != "error"]:
        say(describe_problems(warnings).rstrip(), "dim")
    truth = _given_truth(args, cases, pipeline)
    rows += _predict_cases(pipeline, cases, outputs, settings, args, truth)
    if all(row.error is not None for row in rows):
        print_error(f"every case failed; the tables in {outputs.folder} are unchanged")
        return 1, None
    content = outputs.write_tables(rows, pipeline)
    code = _print_summary(pipeline, rows, outputs)
    if truth:
        truth.print_summary(rows)
    return code, content


def _given_truth(
    args: argparse.Namespace, cases: "Sequence[CaseFiles]", pipeline: "Pipeline"
) -> "Truth | None":
    if args.truth is None:
        return None
    from slicewise.cli.prediction_truth import Truth

    return Truth.given(args.truth, cases, pipeline)


def _short_overrides(args: argparse.Namespace, overrides: Sequence[str]) -> list[str]:
    """Return the keys that short options set."""
    values = {option: getattr(args, option.removeprefix("--").replace("-", "_")) for option in _SHORT}
    short = [
        (option, f"{_SHORT[option][1]}={value}") for option, value in values.items() if value is not None
    ]
    short += [("--tta", "evaluation.flips=true")] if args.tta else []
    for option, override in short:
        key = override.partition("=")[0]
        if given := [word for word in overrides if word.partition("=")[0].lstrip("+~") == key]:
            raise UsageError(f"{option} and {given[0]} set the same; leave one of them out")
    return [override for _, override in short]


def _print_summary(pipeline: "Pipeline", rows: "Sequence[PredictionRow]", outputs: PredictionOutputs) -> int:
    failed = sum(row.error is not None for row in rows)
    say()
    for origin in dict.fromkeys(row.chosen for row in rows if row.chosen):
        say(f"thresholds {origin}" if origin.startswith("chosen") else origin, "dim")
    with wording(pipeline.checkpoints[0].preprocessing.channels, pipeline.classes.names):
        if pipeline.synthetic:
            say(reword(SYNTHETIC_WARNING), "warn")
        say(reword(NOTICE), "dim")
    say(f"the model ran in {pipeline.backend}", "dim")
    say(f"{plural(len(rows) - failed, 'case')} predicted, {failed} failed; see {outputs.folder / CSV_NAME}")
    if outputs.submission:
        left_out = "; cases that failed are not in it" if failed else ""
        say(f"{plural(len(outputs.lines), 'line')} for a submission: {outputs.submission}{left_out}")
    return 1 if failed else 0


def _split_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return (paths, overrides); a word that exists as a file or folder is a path, even with a `=`."""
    overrides = [word for word in words if "=" in word and not expand_user(word).exists()]
    paths = [expand_user(word) for word in words if word not in overrides]
    if not paths:
        raise UsageError("no PATH is given; add a patient's folder, a volume or a picture")
    if missing := ", ".join(str(path) for path in paths if not path.exists()):
        raise UsageError(f"{missing}: does not exist; fix the path or leave it out")
    return paths, overrides


def _given_checkpoint(args: argparse.Namespace) -> Path | None:
    if args.checkpoint is None:
        return None
    checkpoint = expand_user(args.checkpoint)
    if not checkpoint.exists():
        raise UsageError(f"--checkpoint {checkpoint} does not exist; name a best_model.pth")
    return checkpoint


def _load_pipeline(
    workspace: Workspace,
    args: argparse.Namespace,
    given: Path | None,
    settings: PredictionSettings,
    words: Sequence[str],
) -> "Pipeline":
    """Load the given checkpoint, the folds of --ensemble, or the model evaluated last in the workspace.

    That of the configuration where a recipe is given, or none was evaluated.
    """
    from slicewise.inference.pipeline import Pipeline

    return Pipeline.load(
        given or _find_checkpoints(workspace, settings.config, words, ensemble=args.ensemble),
        backend=args.backend,
        settings=settings.evaluation,
        **settings.runtime,
        **settings.fixed,
    )


def _find_checkpoints(
    workspace: Workspace, config: "Config | None", words: Sequence[str], *, ensemble: bool
) -> Path | list[Path]:
    from slicewise.workflow.checkpoints import evaluated_checkpoint, final_checkpoint, fold_checkpoints

    assert config is not None  # only a given bundle does without
    if ensemble:
        return fold_checkpoints(workspace, config)
    typed_keys = {word.lstrip("+").partition("=")[0] for word in words}
    named = bool(typed_keys & {"recipes", "recipe"})
    checkpoint = (None if named else evaluated_checkpoint(workspace)) or workspace.root / final_checkpoint(
        config
    )
    if not checkpoint.exists():
        raise UsageError(
            f"no model is trained in {workspace.root} yet: there is no {final_checkpoint(config)}. "
            "Run `slicewise run --until evaluate` first, or name a model with --checkpoint"
        )
    return checkpoint


def _predict_cases(
    pipeline: "Pipeline",
    cases: "Sequence[CaseFiles]",
    outputs: PredictionOutputs,
    settings: PredictionSettings,
    args: argparse.Namespace,
    truth: "Truth | None",
) -> "list[PredictionRow]":
    """Write the mask of every case, and print and return a row for each; an unreadable one stops no other."""
    from slicewise.data.cases import read_case
    from slicewise.inference.uncertainty import estimate_spread

    rows = []
    with _threads(pipeline, cases, settings.runtime.get("num_threads", 0)):
        for case in progress(cases, desc="predict", unit="case"):
            try:
                read = read_case(case)
                prediction = pipeline.predict(read, strict=args.strict, skull_strip=args.skull_strip)
                if args.uncertainty:
                    prediction = replace(prediction, spread=estimate_spread(pipeline, prediction))
                comparison = truth.compare(prediction, read.volume, pipeline) if truth else None
                row = outputs.add(prediction, read.volume, comparison)
            except DataError as error:
                path = case.images[0] if len(case.images) == 1 else case.folder
                rows.append(_failed(pipeline, case.key.case, path, case.unit, error))
                continue
            for warning in (*prediction.doubts, *prediction.warnings):
                say(f"{prediction.case}: {warning}" if warning in prediction.doubts else warning, "warn")
            say(_describe(row, prediction))
            rows.append(row)
    return rows


def _threads(
    pipeline: "Pipeline", cases: "Sequence[CaseFiles]", num_threads: int
) -> AbstractContextManager[object]:
    """Return what sets the threads of torch; a graph has its own."""
    if pipeline.runs_graphs:
        keep_freed_memory()
        return nullcontext()
    from slicewise.compute.threads import Threads, tuned_threads

    if len(cases) >= _MIN_PICTURES_TO_MEASURE or any(case.unit != "picture" for case in cases):
        return tuned_threads(num_threads, "predict", pipeline.device)
    return Threads.for_short_work(num_threads, "predict")


def _describe(row: "PredictionRow", prediction: "Prediction") -> str:
    """Return the line of a case; without classification it has no verdict."""
    volume = "" if row.volume_ml is None else f"  {row.volume_ml:,.1f} ml"
    volumes_ml = prediction.class_volumes_ml
    each = [f"{name.replace('_', ' ')} {ml:,.1f}" for name, ml in volumes_ml.items() if ml is not None]
    volumes = f" ({', '.join(each)})" if each else ""
    lesions = f"  {plural(row.num_lesions, 'lesion')}" if row.num_lesions is not None and volume else ""
    agreement = f"  Dice {row.scores['dice']:.3f}" if "dice" in row.scores else ""
    mask = f"{volume}{volumes}{lesions}{agreement}  {row.mask or 'no mask'}"
    probability = prediction.class_probabilities.get(row.predicted_class or "", row.tumour_probability)
    if probability is None:
        return f"{row.case:<32}{mask}"
    verdict = (row.verdict or "").replace("_", " ")
    raw = " raw" if row.calibrated is False else ""
    deviation = prediction.spread and prediction.spread.probability_deviation
    spread = "" if deviation is None else f" ± {deviation:.1%}"
    return f"{row.case:<32} {verdict:<10} {probability:.1%}{spread}{raw}{mask}"


def _failed(pipeline: "Pipeline", case: str, path: Path, kind: str | None, error: object) -> "PredictionRow":
    """Print why a case has no prediction and return its row."""
    from slicewise.inference.prediction_rows import PredictionRow

    print_error(f"{case}: {error}")
    return PredictionRow(
        case=case,
        path=str(path),
        kind=kind,
        synthetic=pipeline.synthetic,
        fingerprint=pipeline.fingerprint,
        error=str(error),
    )
