"""The failures as tables, report and figures."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slicewise.core.files import write_text
from slicewise.domain.report import WIDTH, Table
from slicewise.domain.tables import FailedSlice, PatientRow, TraitRow, by_source, plural, write_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.failures import FailureAnalysis, failed_rows
from slicewise.plots.failures import FailurePicture, draw_failure_confusion, draw_failures, draw_iou_bars


def select_failures(analysis: FailureAnalysis, number: int) -> list[FailedSlice]:
    """Return slices to draw: the worst of each patient, then second ones; every source has its share."""
    turns: dict[tuple[str, str], int] = {}
    ranked: list[tuple[int, int, FailedSlice]] = []
    for place, row in enumerate(analysis.slices):
        turn = turns[row.source, row.patient] = turns.get((row.source, row.patient), -1) + 1
        ranked.append((turn, place, row))
    sources = by_source([row for _, _, row in sorted(ranked, key=lambda item: item[:2])])
    if not sources:
        return []
    share = -(-number // len(sources))
    selected = [row for rows in sources.values() for row in rows[:share]]
    return selected[:number]


def write_failures(
    folder: Path,
    result: EvaluationResult,
    analysis: FailureAnalysis,
    pictures: Sequence[FailurePicture],
    *,
    synthetic: bool,
) -> dict[str, Any]:
    """Write report.txt, three tables and three figures into `folder`; return counts for the receipt."""
    write_text(folder / "report.txt", "\n".join(_lines(analysis, synthetic=synthetic)) + "\n")
    write_rows(folder / "slices.csv", analysis.slices, FailedSlice)
    write_rows(folder / "patients.csv", analysis.patients, PatientRow)
    write_rows(folder / "traits.csv", analysis.traits, TraitRow)
    draw_failures(folder / "failures.png", pictures, len(analysis.slices), synthetic=synthetic)
    draw_iou_bars(folder / "iou_of_failures.png", analysis.slices, analysis.patients, synthetic=synthetic)
    failed = by_source(failed_rows(result, analysis.threshold))
    draw_failure_confusion(folder / "confusion_matrices.png", result, failed, synthetic=synthetic)
    return {
        "dice_below": analysis.threshold,
        "num_slices": len(analysis.slices),
        "num_patients": len(analysis.patients),
    }


def _lines(analysis: FailureAnalysis, *, synthetic: bool) -> Iterator[str]:
    yield "Failures on the test patients" + (" (synthetic data)" if synthetic else "")
    yield "=" * WIDTH
    yield f"A mask fails below a Dice of {analysis.threshold:g}; without a mask, a wrong class fails."
    yield "Slices in which neither reference nor prediction has a tumour are not counted."
    failed = by_source(analysis.slices)
    for source, number in analysis.num_judged.items():
        rows = failed.get(source, [])
        kinds = sorted(Counter(row.kind for row in rows).items())
        counts = f" ({', '.join(f'{count} {kind}' for kind, count in kinds)})" if kinds else ""
        yield f"{source}: {len(rows)} of {plural(number, 'slice')} failed{counts}"
    names = ", ".join(f"{row.source}/{row.patient} ({row.dice:.2f})" for row in analysis.patients)
    yield f"patients that failed: {names or 'none'}"
    yield ""
    if not analysis.traits:
        yield "Nothing to compare: no slice failed, or all did."
        return
    rows = [
        (
            *(row.level, row.source, row.trait, f"{row.failed:.3g}", f"{row.rest:.3g}"),
            f"{row.effect:+.2f} {row.strength} ({row.num_failed} against {row.num_rest})",
        )
        for row in analysis.traits
    ]
    caption = "What the failures have in common, strongest first (medians; shares of yes-or-no traits):"
    yield from Table(("level", "source", "trait", "failed", "rest", "effect"), rows, caption).lines()
    yield ""
    yield "effect: Cliff's delta. Slices of one patient resemble each other: few patients prove little."
