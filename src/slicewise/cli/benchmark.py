"""`slicewise benchmark CHECKPOINT|BUNDLE...`: models and their exports side by side."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.errors import UsageError
from slicewise.core.files import write_json
from slicewise.core.machine import processor_name, usable_cores
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.workflow.benchmark import Benchmark, Entrant

_REPEATS: Final = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = (
        "a best_model.pth, which torch runs, or a folder of `slicewise export`, each of whose graphs counts"
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="CHECKPOINT|BUNDLE", help=text)
    text = "slices at a time (default: 1 8)"
    parser.add_argument("--batch-sizes", nargs="+", type=_positive, default=[1, 8], metavar="N", help=text)
    text = "numbers of threads (default: 1, and all cores)"
    parser.add_argument("--threads", nargs="+", type=_positive, default=[], metavar="N", help=text)
    text = f"measurements of a slice; a sixth as many of a case (default: {_REPEATS})"
    parser.add_argument("--repeats", type=_positive, default=_REPEATS, metavar="N", help=text)
    text = "patients for Dice and AUC: those of the split in the workspace of the first model (default: val)"
    parser.add_argument("--subset", choices=("val", "test", "none"), default="val", help=text)
    text = "files for the time of a whole case (default: the first one of these patients)"
    parser.add_argument("--case", type=Path, metavar="PATH", help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements as JSON")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the milliseconds of a slice as PNG")
    parser.epilog = (
        "Models are measured alternately in one process; a slice is timed prepared, a case from its files "
        "to its mask on the disk."
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_positive.__name__ = "number from 1 on"  # for argparse's message


def execute(args: argparse.Namespace) -> int:
    from slicewise.workflow.benchmark import find_entrants, run_benchmark
    from slicewise.workflow.slices import stored_cases, workspace_of

    entrants = find_entrants([expand_user(path) for path in args.models])
    first = entrants[0].open()
    workspace = workspace_of(entrants[0].path)
    patients = (
        []
        if args.subset == "none"
        else stored_cases(workspace, first.checkpoints[0].preprocessing, args.subset)
    )
    case = _case(args.case, entrants[0], workspace, {each.key for each in patients})
    threads = args.threads or sorted({1, usable_cores()})
    say(f"{processor_name()}, {usable_cores()} cores; {args.repeats} measurements, alternating", "header")
    if not patients and args.subset != "none":
        say(f"no scores: {workspace.root} holds no {args.subset} patients for this model", "warn")
    done = run_benchmark(
        entrants,
        sorted({*args.batch_sizes}),
        sorted({*threads}),
        args.repeats,
        case=case,
        patients=patients,
        subset=args.subset,
    )
    _show(done, len(patients))
    if args.json:
        write_json(expand_user(args.json), done.to_json())
    if args.figure:
        _draw(expand_user(args.figure), done, synthetic=first.synthetic)
    return 0


def _case(
    path: Path | None, entrant: "Entrant", workspace: Workspace, keys: set[object]
) -> "CaseFiles | None":
    """Return the files of the case to time: those given, or of the first volume among the patients."""
    from slicewise.workflow.slices import indexed_cases

    if path is not None:
        cases, problems = entrant.open().find([expand_user(path)])
        if len(cases) != 1:
            found = "; ".join(map(str, problems)) or f"{len(cases)} cases"
            raise UsageError(f"--case {path} must hold one case, and holds {found}")
        return cases[0]
    known = [case for case in indexed_cases(workspace) if case.key in keys]
    return min(known, key=lambda case: (case.unit != "volume", case.key), default=None)


def _show(done: "Benchmark", num_patients: int) -> None:
    from slicewise.workflow.benchmark import LABELS

    for line in done.to_table().lines():
        say(line.rstrip())
    if done.case:
        say(f"a case: {done.case}, from its files to its mask on the disk", "dim")
    if done.scores:
        subset = {"val": "validation", "test": "test"}[done.subset]
        say(f"Dice and AUC: {num_patients} {subset} cases, configured thresholds", "dim")
        for row in done.scores:
            if row.minus and row.value is not None:
                interval = "no interval" if row.low is None else row.interval_text
                text = f"{LABELS[row.score]} {row.value_text} ({interval})"
                say(f"  {row.name}, {row.source}: {text}", "dim")


def _draw(path: Path, done: "Benchmark", *, synthetic: bool) -> None:
    from slicewise.plots.benchmark import Bar, draw_benchmark
    from slicewise.workflow.benchmark import LABELS

    bars = [Bar(row.name, row.batch_size, row.num_threads, *row.slice_ms) for row in done.rows]
    names = {bar.name: [bar.name] for bar in bars}
    for row in done.scores:
        label = LABELS[row.score]
        known = any(text.startswith(label) for text in names[row.variant])  # of the first source
        if not row.minus and row.value is not None and not known:
            names[row.variant].append(f"{label} {row.value_text}")
    labels = ["\n".join([name, ", ".join(scores)]) if scores else name for name, *scores in names.values()]
    draw_benchmark(path, bars, labels, f"Prediction on {processor_name()}", synthetic=synthetic)
