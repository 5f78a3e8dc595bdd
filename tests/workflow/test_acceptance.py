from dataclasses import replace

import pytest

from slicewise.domain.tables import ComparisonRow
from slicewise.workflow.acceptance import Judgement, Limits, RefusedError, Speed
from slicewise.workflow.benchmark import Timing


def row(score: str, value: float | None, source: str = "brats") -> ComparisonRow:
    low = None if value is None else value - 0.01
    high = None if value is None else value + 0.01
    return ComparisonRow(source, score, "int8", "fp32", 0, value, low, high, 8, 100, None, "", "")


ACCEPTED = Judgement(
    name="onnx_int8",
    speed=Speed(Timing(10, 9, 12), Timing(5, 4, 6), 2.0),
    differences=(row("dice_per_patient", -0.002), row("roc_auc", 0.001), row("roc_auc", None, "pictures")),
    limits=Limits(),
)


def test_a_faster_model_within_the_limits_is_accepted() -> None:
    assert ACCEPTED.objections == []
    ACCEPTED.require()
    assert "Dice on brats: -0.002 (-0.012 to +0.008; 8 patients or families)" in ACCEPTED.figures()
    assert ACCEPTED.to_json()["accepted"] is True


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"speed": ACCEPTED.speed._replace(ratio=1.02)}, "it is not faster"),
        ({"differences": (row("dice_per_patient", -0.004),)}, "more than 0.003 Dice on brats"),
        ({"differences": (row("roc_auc", -0.02, "pictures"),)}, "more than 0.003 AUC on pictures"),
        ({"differences": (row("roc_auc", None),)}, "could not be measured"),
        ({"limits": Limits(dice=0.001)}, "more than 0.001 Dice"),
    ],
)
def test_a_refusal_gives_its_reason_and_all_figures(changes: dict[str, object], objection: str) -> None:
    refused = replace(ACCEPTED, **changes)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=objection) as caught:
        refused.require()
    for figure in refused.figures():
        assert figure in str(caught.value)


def test_the_speed_of_another_machine_is_not_asked_for() -> None:
    slow = replace(ACCEPTED, speed=ACCEPTED.speed._replace(ratio=0.5))
    with pytest.raises(RefusedError, match="--for-another-machine leaves the speed out"):
        slow.require()
    replace(slow, limits=Limits(must_be_faster=False)).require()
