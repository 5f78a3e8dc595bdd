"""`slicewise compare A B`: two finished evaluations, paired by patient."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.files import write_json
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.steps.evaluate import HOMES

if TYPE_CHECKING:
    from slicewise.evaluation.comparison.runs import Comparison

_EVALUATION = Path(HOMES["evaluation"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = f"a workspace, its folder {_EVALUATION}, or a table in it"
    parser.add_argument("first", type=Path, metavar="A", help=what)
    parser.add_argument("second", type=Path, metavar="B", help="the other run; differences are B minus A")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON too")


def execute(args: argparse.Namespace) -> int:
    from slicewise.evaluation.comparison.runs import compare_runs, read_tables

    first, second = (read_tables(expand_user(path)) for path in (args.first, args.second))
    comparison = compare_runs(first, second)
    for name, run in (("A", first), ("B", second)):
        say(f"{name}: {run.folder}")
    for line in _table(comparison):
        say(line)
    for note in comparison.notes:
        say(f"note: {note}", "warn")
    settings = _show_settings(_settings(first.folder), _settings(second.folder))
    if args.json:
        changes = [
            {
                "source": change.source,
                "score": change.score,
                "first": change.first,
                "second": change.second,
                "difference": change.difference.estimate.to_json(),
                "p_value": change.difference.p_value,
                "left_out": change.left_out,
            }
            for change in comparison.changes
        ]
        content = {"changes": changes, "notes": list(comparison.notes), "settings": settings}
        write_json(expand_user(args.json), content)
    return 0


def _table(comparison: "Comparison") -> Iterator[str]:
    yield f"\n{'source':<18}{'score':<32}{'A':>8}{'B':>8}{'B - A':>9}  {'interval':<19}{'p':>8}{'pairs':>7}"
    for change in comparison.changes:
        estimate, p_value = change.difference.estimate, change.difference.p_value
        has_interval = estimate.low is not None and estimate.high is not None
        interval = f"{estimate.low:+.3f} to {estimate.high:+.3f}" if has_interval else "–"
        p_text = "–" if p_value is None else f"{p_value:.3g}"
        gain = "–" if estimate.value is None else f"{estimate.value:+.3f}"
        excluded = f"  ({change.left_out} more in one run only)" if change.left_out else ""
        yield (
            f"{change.source:<18}{change.score:<32}{change.first:>8.3f}{change.second:>8.3f}{gain:>9}  "
            f"{interval:<19}{p_text:>8}{estimate.num_patients:>7}{excluded}"
        )
    yield "interval: bootstrap over the pairs; p: Wilcoxon's signed-rank test, from six pairs on"


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
