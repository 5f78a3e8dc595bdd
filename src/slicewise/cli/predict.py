"""`slicewise predict PATH...`: examine volumes and pictures with a trained network."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slicewise.cli.options import add_network_options, add_workspace_option, compose_words, workspace_from
from slicewise.core.console import complain, say
from slicewise.core.errors import UsageError
from slicewise.core.labels import MODALITIES
from slicewise.core.storage import expand_user, explain_storage

if TYPE_CHECKING:
    from slicewise.cli.predictions.networks import Network
    from slicewise.cli.predictions.table import PredictionRow
    from slicewise.config.schema import Config

RESULTS = Path("results/predictions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "slicewise predict PATH [PATH ...] [options] [key=value ...]"
    parser.add_argument(
        "words",
        nargs="+",
        metavar="PATH",
        help="a patient's folder, a volume, a picture, or a folder of such; also key=value of the "
        "configuration, e.g. runtime.device=cpu or evaluation.flips=true",
    )
    add_workspace_option(parser)
    add_network_options(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help=f"where to write (default: <workspace>/{RESULTS})"
    )
    parser.add_argument(
        "--modality", choices=MODALITIES, help="what volumes and pictures show whose names do not say it"
    )


def execute(args: argparse.Namespace) -> int:
    from slicewise.cli.predictions.examine import examine, row_of_problem
    from slicewise.cli.predictions.table import write_tables
    from slicewise.data.inputs import Unnamed, find_inputs
    from slicewise.data.problems import describe_problems

    workspace = workspace_from(args)
    paths, overrides = _sort(args.words)
    folder: Path = expand_user(args.out or workspace.root / RESULTS)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is not a folder")
    config = compose_words(overrides)
    network = _network(args, config, overrides)
    slot = args.modality or network.predictor.checkpoints[0].slot
    cases, problems = find_inputs(paths, Unnamed(args.modality, slot))
    if not cases:
        raise UsageError(f"nothing to examine: {'; '.join(map(str, problems))}")
    rows = [row_of_problem(network, problem) for problem in problems if problem.severity == "error"]
    for row in rows:
        _tell(row)
    if odd := [problem for problem in problems if problem.severity != "error"]:
        say(describe_problems(odd).rstrip(), "dim")
    with _explained(folder):
        settings, threads = config.evaluation, config.runtime.num_threads
        rows += examine(network, cases, folder, settings.batch_size, _tell, num_threads=threads)
        if all(row.error is not None for row in rows):
            complain(f"no case could be examined; the tables in {folder} are as they were")
            return 1
        write_tables(folder, rows, network.to_json())
    return _conclude(network, rows, folder)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say that --out names another folder, where `folder` is full or cannot be written."""
    try:
        yield
    except OSError as error:
        if explained := explain_storage(error, folder, option="--out"):
            raise explained from error
        raise


def _sort(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell paths from overrides: what exists is a path, whatever its name."""
    overrides = [word for word in words if "=" in word and not expand_user(word).exists()]
    paths = [expand_user(word) for word in words if word not in overrides]
    if not paths:
        raise UsageError("no PATH is given; name a patient's folder, a volume or a picture")
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UsageError(f"{', '.join(missing)}: does not exist; mend the path or leave it out")
    return paths, overrides


def _network(args: argparse.Namespace, config: "Config", overrides: Sequence[str]) -> "Network":
    from slicewise.cli.predictions.networks import load_ensemble, load_network

    workspace = workspace_from(args)
    if args.ensemble:
        return load_ensemble(workspace, config)
    said = {word.lstrip("+").partition("=")[0] for word in overrides}
    wishes = {
        key: value for key, value in config.evaluation.asking._asdict().items() if f"evaluation.{key}" in said
    }
    checkpoint = expand_user(args.checkpoint) if args.checkpoint else None
    return load_network(workspace, config, checkpoint, wishes)


def _tell(row: "PredictionRow") -> None:
    if row.error is not None:
        complain(f"{row.case}: {row.error}")
        return
    volume = "" if row.volume_ml is None else f"  {row.volume_ml:,.1f} ml"
    verdict = (row.verdict or "no verdict").replace("_", " ")
    probability = "–" if row.tumour_probability is None else f"{row.tumour_probability:.1%}"
    probability += " raw" if row.calibrated is False else ""
    say(f"{row.case:<32} {verdict:<10} {probability}{volume}  {row.mask or 'no mask'}")


def _conclude(network: "Network", rows: "Sequence[PredictionRow]", folder: Path) -> int:
    from slicewise.cli.predictions.table import CSV_NAME, NOTICE
    from slicewise.evaluation.answer import SYNTHETIC, untrained
    from slicewise.evaluation.rows import plural

    failed = sum(row.error is not None for row in rows)
    say()
    for origin in dict.fromkeys(row.chosen for row in rows if row.chosen):
        say(f"decided by what was {origin}" if origin.startswith("chosen") else origin, "dim")
    if note := untrained(network.predictor.not_trained):
        say(note, "warn")
    if network.predictor.synthetic:
        say(SYNTHETIC, "warn")
    say(NOTICE, "dim")
    say(f"{plural(len(rows) - failed, 'case')} examined, {failed} not; see {folder / CSV_NAME}")
    return 1 if failed else 0
