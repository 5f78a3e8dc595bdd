from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from slicewise.domain.keys import SliceKey
from slicewise.domain.labels import MODALITIES
from slicewise.domain.tables import TraitRow
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.failures import (
    FailureAnalysis,
    SliceImage,
    analyse_failures,
    cliffs_delta,
    describe_image,
    select_failures,
    strength,
    write_failures,
)
from slicewise.plots.sample_predictions import SlicePicture

Results = Callable[..., EvaluationResult]
Looks = dict[SliceKey, SliceImage]
ALL_FOUR: dict[str, bool] = dict.fromkeys(MODALITIES, True)


def looks_of(result: EvaluationResult) -> Looks:
    return {row.key: SliceImage(ALL_FOUR, 2.0) for row in result.slices}


@pytest.fixture
def poor(results: Results) -> EvaluationResult:
    return results(num_patients=8, num_pictures=20, skill=0.2)


@pytest.fixture
def found(poor: EvaluationResult) -> FailureAnalysis:
    return analyse_failures(poor, looks_of(poor), 0.5)


def trait(rows: tuple[TraitRow, ...], level: str, source: str, name: str) -> TraitRow:
    (row,) = [row for row in rows if (row.level, row.source) == (level, source) and name in row.trait]
    return row


def test_failures_are_masks_below_the_threshold_and_wrong_calls_without_masks(
    poor: EvaluationResult, found: FailureAnalysis
) -> None:
    expected = set()
    for row in poor.slices:
        if row.dice is None:
            expected |= {row.key} if row.predicted != row.label else set()
        elif row.reference_pixels or row.predicted_pixels:
            expected |= {row.key} if row.dice < 0.5 else set()
    assert {row.key for row in found.slices} == expected
    patients = {row.patient for row in poor.patients if row.dice is not None and row.dice < 0.5}
    assert {row.patient for row in found.patients} == patients


def test_kinds_say_how_a_slice_failed(poor: EvaluationResult, found: FailureAnalysis) -> None:
    rows = {row.key: row for row in poor.slices}
    assert {row.kind for row in found.slices} >= {"missed", "poor overlap", "called wrongly"}
    for failure in found.slices:
        row = rows[failure.key]
        if failure.kind == "missed":
            assert row.reference_pixels
            assert not row.common_pixels
        if failure.kind == "false alarm":
            assert not row.reference_pixels
            assert row.predicted_pixels
    dice = [row.dice for row in found.slices if row.dice is not None]
    assert dice == sorted(dice)


def test_a_perfect_result_has_no_failures_and_nothing_to_compare(poor: EvaluationResult) -> None:
    perfect = analyse_failures(poor, looks_of(poor), 0.0)
    assert [row for row in perfect.slices if row.dice is not None] == []
    assert perfect.patients == ()


def test_small_tumours_fail_and_the_table_says_so(found: FailureAnalysis) -> None:
    """The shift of the made-up predictions is the same for all sizes, so the small discs are lost."""
    row = trait(found.traits, "slice", "lgg", "tumour, pixels")
    assert row.failed < row.rest
    assert row.effect < -0.33


def test_a_planted_cause_is_found_and_a_constant_is_no_trait(
    poor: EvaluationResult, found: FailureAnalysis
) -> None:
    failed = {row.key for row in found.slices}
    looks = {
        key: SliceImage({**ALL_FOUR, "t1ce": key in failed}, 1.0 if key in failed else 2.0)
        for key in looks_of(poor)
    }
    traits = analyse_failures(poor, looks, 0.5).traits
    for name, effect in (("has t1ce", 1.0), ("intensity range", -1.0)):
        row = trait(traits, "slice", "lgg", name)
        assert (row.effect, row.strength) == (effect, "large")
    assert not [row for row in traits if "has flair" in row.trait]
    assert trait(traits, "slice", "all", "is of lgg").num_failed == len(failed)
    assert [abs(row.effect) for row in traits if row.level == "slice"] == sorted(
        (abs(row.effect) for row in traits if row.level == "slice"), reverse=True
    )


def test_a_handful_has_no_strength(results: Results) -> None:
    result = results(num_patients=2, num_pictures=0, skill=0.0, seed=3)
    rows = analyse_failures(result, looks_of(result), 0.5).traits
    few = [row for row in rows if min(row.num_failed, row.num_rest) < 5]
    assert few
    assert {row.strength for row in few} == {"too few"}


@pytest.mark.parametrize("seed", range(3))
def test_cliffs_delta_counts_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.integers(0, 6, 9).tolist(), rng.integers(2, 8, 7).tolist()
    pairs = [(a > b) - (a < b) for a in one for b in two]
    assert cliffs_delta(one, two) == pytest.approx(np.mean(pairs))
    assert cliffs_delta([1, 1, 0], [0, 0, 1]) == pytest.approx(1 / 3)  # of shares: their difference
    assert [strength(effect) for effect in (0.1, -0.2, 0.4, -0.9)] == [
        "negligible",
        "small",
        "medium",
        "large",
    ]


def test_an_image_is_described_by_what_is_shown_of_it() -> None:
    images = np.zeros((4, 8, 8), np.float16)
    images[3, :4] = np.linspace(-1, 2, 32).reshape(4, 8)
    look = describe_image(images, dict(zip(MODALITIES, (False, False, False, True), strict=True)))
    assert [*look.presence.values()] == [False, False, False, True]
    assert look.intensity_range == pytest.approx(3 * 0.98, abs=0.1)
    assert describe_image(np.zeros((4, 8, 8)), ALL_FOUR).intensity_range == 0


def test_what_is_drawn_is_capped_and_of_many_patients(found: FailureAnalysis) -> None:
    chosen = select_failures(found, 6)
    assert len(chosen) == 6
    assert len({(row.source, row.patient) for row in chosen}) == 6
    assert {row.source for row in chosen} == {"lgg", "pictures"}
    assert select_failures(found, 6) == chosen
    assert select_failures(replace(found, slices=()), 6) == []


def draw(folder: Path, result: EvaluationResult, found: FailureAnalysis) -> Path:
    grey = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    pictures = [
        SlicePicture(row, grey, grey > 0.5 if row.dice is not None else None, grey > 0.7)
        for row in select_failures(found, 3)
    ]
    write_failures(folder, result, found, pictures, synthetic=True)
    return folder


def test_the_same_failures_give_the_same_bytes(
    tmp_path: Path, poor: EvaluationResult, found: FailureAnalysis
) -> None:
    one, two = (draw(tmp_path / name, poor, found) for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert any(name.parts[0] == "pictures" for name in files), "the failures are copied"
    text = (one / "report.txt").read_text()
    assert "synthetic data" in text.splitlines()[0]
    assert "tumour, pixels of the reference" in text
    assert len((one / "traits.csv").read_text().splitlines()) == len(found.traits) + 1


@pytest.mark.parametrize(("failed", "words"), [(True, "none is shown"), (False, "no slice failed")])
def test_a_figure_without_pictures_does_not_deny_the_failures(
    tmp_path: Path,
    poor: EvaluationResult,
    found: FailureAnalysis,
    monkeypatch: pytest.MonkeyPatch,
    failed: bool,
    words: str,
) -> None:
    """With evaluation.failure_pictures=0 none is drawn."""
    told: list[str] = []

    def read(figure: Figure, *_: object, **__: object) -> None:
        told.extend(text.get_text() for axes in figure.axes for text in axes.texts)
        told.extend(axes.get_title(loc="left") for axes in figure.axes)

    monkeypatch.setattr(Figure, "savefig", read)
    write_failures(tmp_path, poor, found if failed else replace(found, slices=()), [], synthetic=False)
    assert words in told
    if not failed:
        assert "lgg: no failures" in told
        return
    lgg = next(text for text in told if text.startswith("lgg, failures"))
    assert "slices\n" in lgg, "two slices of two patients are no pictures"
    pictures = next(text for text in told if text.startswith("pictures, failures"))
    assert "pictures\n" in pictures


def test_no_failures_are_said_to_be_none(tmp_path: Path, poor: EvaluationResult) -> None:
    nothing = FailureAnalysis((), (), (), {"lgg": 3}, 0.5)
    draw(tmp_path, poor, nothing)
    text = (tmp_path / "report.txt").read_text()
    assert "lgg: 0 of 3 slices failed" in text
    assert "patients that failed: none" in text
    assert "Nothing to compare" in text
