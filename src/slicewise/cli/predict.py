"""`slicewise predict PATH...`: predict on volumes and pictures with a trained model."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slicewise.cli.options import add_model_options, add_workspace_option, compose_overrides, workspace_from
from slicewise.core.console import print_error, say
from slicewise.core.disk import expand_user, explain_disk_error
from slicewise.core.errors import UsageError
from slicewise.data.problems import describe_problems
from slicewise.domain.labels import MODALITIES
from slicewise.domain.tables import plural

if TYPE_CHECKING:
    from slicewise.cli.predictions.models import TrainedModel
    from slicewise.cli.predictions.table import PredictionRow
    from slicewise.config.schema import Config

RESULTS = Path("results/predictions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "slicewise predict PATH [PATH ...] [options] [key=value ...]"
    parser.add_argument(
        "words",
        nargs="+",
        metavar="PATH",
        help="a patient's folder, a volume, a picture, or a folder of these; also key=value of the "
        "configuration, e.g. runtime.device=cpu or evaluation.flips=true",
    )
    add_workspace_option(parser)
    add_model_options(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"where to write (default: <workspace>/{RESULTS})"
    )
    parser.add_argument(
        "--modality", choices=MODALITIES, help="modality of files whose names do not state one"
    )


def execute(args: argparse.Namespace) -> int:
    from slicewise.cli.predictions.cases import predict_cases, problem_row
    from slicewise.cli.predictions.table import write_tables
    from slicewise.data.inputs import DefaultModalities, find_inputs

    workspace = workspace_from(args)
    paths, overrides = _split_words(args.words)
    folder: Path = expand_user(args.out or workspace.root / RESULTS)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is not a folder")
    config = compose_overrides(overrides)
    model = _load_model(args, config, overrides)
    slot = args.modality or model.predictor.checkpoints[0].slot
    cases, problems = find_inputs(paths, DefaultModalities(args.modality, slot))
    if not cases:
        raise UsageError(f"no case to predict on: {'; '.join(map(str, problems))}")
    rows = [problem_row(model, problem) for problem in problems if problem.severity == "error"]
    for row in rows:
        _print_row(row)
    if warnings := [problem for problem in problems if problem.severity != "error"]:
        say(describe_problems(warnings).rstrip(), "dim")
    batch_size, num_threads = config.evaluation.batch_size, config.runtime.num_threads
    try:
        rows += predict_cases(model, cases, folder, batch_size, _print_row, num_threads=num_threads)
        if all(row.error is not None for row in rows):
            print_error(f"every case failed; the tables in {folder} are unchanged")
            return 1
        write_tables(folder, rows, model.to_json())
    except OSError as error:
        if explained := explain_disk_error(error, folder, option="--out"):
            raise explained from error
        raise
    return _print_summary(model, rows, folder)


def _split_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return (paths, overrides); a word that exists as a file or folder is a path, even with a `=`."""
    overrides = [word for word in words if "=" in word and not expand_user(word).exists()]
    paths = [expand_user(word) for word in words if word not in overrides]
    if not paths:
        raise UsageError("no PATH is given; add a patient's folder, a volume or a picture")
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UsageError(f"{', '.join(missing)}: does not exist; fix the path or leave it out")
    return paths, overrides


def _load_model(args: argparse.Namespace, config: "Config", overrides: Sequence[str]) -> "TrainedModel":
    from slicewise.cli.predictions.models import load_ensemble, load_model

    workspace = workspace_from(args)
    if args.ensemble:
        return load_ensemble(workspace, config)
    typed_keys = {word.lstrip("+").partition("=")[0] for word in overrides}
    overridden = {
        key: value
        for key, value in config.evaluation.inference._asdict().items()
        if f"evaluation.{key}" in typed_keys
    }
    checkpoint = expand_user(args.checkpoint) if args.checkpoint else None
    return load_model(workspace, config, checkpoint, overridden)


def _print_row(row: "PredictionRow") -> None:
    if row.error is not None:
        print_error(f"{row.case}: {row.error}")
        return
    volume = "" if row.volume_ml is None else f"  {row.volume_ml:,.1f} ml"
    verdict = (row.verdict or "no verdict").replace("_", " ")
    probability = "–" if row.tumour_probability is None else f"{row.tumour_probability:.1%}"
    probability += " raw" if row.calibrated is False else ""
    say(f"{row.case:<32} {verdict:<10} {probability}{volume}  {row.mask or 'no mask'}")


def _print_summary(model: "TrainedModel", rows: "Sequence[PredictionRow]", folder: Path) -> int:
    from slicewise.cli.predictions.table import CSV_NAME, NOTICE
    from slicewise.inference.prediction import SYNTHETIC_WARNING, untrained_note

    failed = sum(row.error is not None for row in rows)
    say()
    for origin in dict.fromkeys(row.chosen for row in rows if row.chosen):
        say(f"thresholds {origin}" if origin.startswith("chosen") else origin, "dim")
    if note := untrained_note(model.predictor.not_trained):
        say(note, "warn")
    if model.predictor.synthetic:
        say(SYNTHETIC_WARNING, "warn")
    say(NOTICE, "dim")
    say(f"{plural(len(rows) - failed, 'case')} predicted, {failed} failed; see {folder / CSV_NAME}")
    return 1 if failed else 0
