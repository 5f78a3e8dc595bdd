"""`python -m benchmarks [name ...]`: measure, then print the table."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.bench import Bench, temporary_bench
from benchmarks.measure import Row
from benchmarks.report import machine, table, write_report
from benchmarks.size import FULL, TINY

NAMES = (
    "preprocess",
    "listing",
    "train_step",
    "usual_loop",
    "augmentation",
    "malloc",
    "neighbours",
    "checkpointing",
    "export",
    "noop",
    "accuracy",
    "curve",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmarks; return 0 if all could be run, whatever their figures are."""
    args = _parse(argv)
    before = machine()
    print(", ".join(f"{name} {fact}" for name, fact in before.items()))
    overrides = tuple(args.workspace_override)
    size = (TINY if args.tiny else FULL).with_threads(args.threads)
    with temporary_bench(size, args.workspace, overrides) as bench:
        rows, failed = measure_all(args.names or NAMES, bench)
    print()
    print(table(rows))
    if args.json:
        write_report(args.json, rows, before)
    return 1 if failed else 0


def measure_all(names: Sequence[str], bench: Bench) -> tuple[list[Row], list[str]]:
    """Run the benchmarks one after the other; return the rows, and the names of those that could not run."""
    rows: list[Row] = []
    failed: list[str] = []
    for name in names:
        started = time.perf_counter()
        try:
            measured = load(name)(bench)
        except RuntimeError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed.append(name)
            continue
        rows += measured
        ratios = ", ".join(f"{row.ratio:.2f}" for row in measured)
        print(f"{name}: {ratios} after {time.perf_counter() - started:.0f} s", flush=True)
    return rows, failed


def load(name: str) -> Callable[[Bench], list[Row]]:
    """Import a benchmark and return its function."""
    run: Callable[[Bench], list[Row]] = import_module(f"benchmarks.{name}").run
    return run


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    parser.add_argument(
        "--tiny", action="store_true", help="a model and patients too small for meaningful figures"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="threads of the training; fewer than the cores if these are shared",
    )
    parser.add_argument(
        "--workspace", type=Path, metavar="DIR", help="noop, accuracy: a finished workspace to use"
    )
    parser.add_argument(
        "--workspace-override",
        action="append",
        default=[],
        metavar="key=value",
        help="an override with which that workspace was made; may be repeated",
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    return args


if __name__ == "__main__":
    sys.exit(main())
