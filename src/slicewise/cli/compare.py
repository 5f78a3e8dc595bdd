"""`slicewise compare A B`: two finished evaluations, paired by patient."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.files import write_json
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.steps.evaluate import HOMES

_EVALUATION = Path(HOMES["evaluation"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = f"a workspace, its folder {_EVALUATION}, or a table in it"
    parser.add_argument("first", type=Path, metavar="A", help=what)
    parser.add_argument("second", type=Path, metavar="B", help="the other run; differences are B minus A")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON too")


def execute(args: argparse.Namespace) -> int:
    from slicewise.evaluation.comparison import to_text
    from slicewise.evaluation.runs import compare_runs, read_run
    from slicewise.metrics.table import metrics_of

    runs = [read_run(expand_user(path), name) for name, path in (("A", args.first), ("B", args.second))]
    rows, notes = compare_runs(runs, metrics_of("slice", "patient", "pooled"))
    for run in runs:
        say(f"{run.variant.name}: {run.folder}")
    say()
    say("\n".join(to_text(rows)))
    for note in notes:
        say(f"note: {note}", "warn")
    settings = _show_settings(*(_settings(run.folder) for run in runs))
    if args.json:
        content = {"rows": [asdict(row) for row in rows], "notes": notes, "settings": settings}
        write_json(expand_user(args.json), content)
    return 0


def _settings(folder: Path) -> dict[str, Any]:
    """Return {dotted key: value} of all settings behind an evaluation, from the receipts.

    Empty where one of them is gone: a later run may have replaced an output by one of other settings.
    """
    evaluation_receipt = Receipt.read(folder)
    if evaluation_receipt is None or folder.parts[-2:] != _EVALUATION.parts:
        return {}
    base = folder.parents[1]  # a workspace, or a fold of one, which shares steps with the others
    bases = [base.parents[1], base] if base.parent.name == "folds" else [base]
    homes = (path.parent for above in bases for path in above.glob(f"*/*/{RECEIPT_NAME}"))
    receipts = {receipt.fingerprint: receipt for receipt in map(Receipt.read, homes) if receipt}
    settings = dict(evaluation_receipt.identity.settings)
    needed = dict(evaluation_receipt.identity.needs)
    while needed:
        name, fingerprint = needed.popitem()
        receipt = receipts.get(fingerprint)
        if receipt is None or receipt.identity.step != name:
            return {}
        settings |= receipt.identity.settings
        needed |= receipt.identity.needs
    return settings


def _show_settings(first: dict[str, Any], second: dict[str, Any]) -> dict[str, list[Any]] | None:
    """Print and return {key: [value in A, value in B]} where they differ; None if some are unknown."""
    if not first or not second:
        say("\nsettings: unknown, a receipt of one of them is gone, or a later run has replaced it")
        return None
    keys = sorted(first.keys() | second.keys())
    differing = {key: [first.get(key), second.get(key)] for key in keys if first.get(key) != second.get(key)}
    say("\nsettings that differ:" if differing else "\nsettings: the same in both")
    for key, (value_a, value_b) in differing.items():
        say(f"  {key}: {value_a} -> {value_b}")
    return differing
