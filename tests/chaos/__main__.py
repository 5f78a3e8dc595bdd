"""`python -m tests.chaos`: kill many runs at random moments, and compare each with an uninterrupted one.

One more is stopped in every step, as Ctrl-C and SIGTERM stop it.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.report import is_clean, summarise, table
from tests.chaos.runs import STEPS, TARGETS, Kill, Run, Usual, killed_run, stopped_run, uninterrupted


def choose_kills(usual: Usual, number: int, num_kills: int, seed: int) -> list[Kill]:
    """Return moments in the order of the steps; over the runs, every step is killed equally often."""
    rng = random.Random(f"{seed} {number}")
    first = number * num_kills
    turns = sorted((first + turn) % len(TARGETS) for turn in range(num_kills))
    return [usual.draw(TARGETS[turn], rng) for turn in turns]


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if every run ended like the uninterrupted one, and the stopped one orderly."""
    args = _parse(argv)
    with tempfile.TemporaryDirectory(prefix="slicewise-chaos-", dir=args.folder) as name:
        usual, runs = _all_runs(Path(name), args)
        figures, faults = summarise(usual, runs), list(stopped_run(Path(name), usual, STEPS))
    print(table(figures))
    print("stopped in every step:", "\n".join(faults) or "orderly")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if is_clean(figures) and not faults else 1


def _all_runs(folder: Path, args: argparse.Namespace) -> tuple[Usual, list[Run]]:
    usual = uninterrupted(folder, args.raw)
    print(f"uninterrupted: {usual.seconds:.1f} s, {len(usual.outputs)} outputs", flush=True)

    def kill_and_compare(number: int) -> Run:
        run = killed_run(folder, number, usual, choose_kills(usual, number, args.kills, args.seed))
        where = ", ".join(f"{a.step} {a.event}".strip() for a in run.attempts if a.was_killed)
        verdict = "; ".join((*run.mismatches[:3], *run.leftovers[:3])) or "same"
        print(f"run {number}: killed in {where or 'nothing'}; {verdict}", flush=True)
        return run

    with ThreadPoolExecutor(args.jobs) as pool:
        return usual, list(pool.map(kill_and_compare, range(args.runs)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=44)
    parser.add_argument("--kills", type=int, default=3, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="for the workspaces; temporary by default")
    parser.add_argument(
        "--raw", type=Path, metavar="DIR", help="data/raw of an earlier run, instead of generating it"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
