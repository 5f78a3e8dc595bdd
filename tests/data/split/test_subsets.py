import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.config.schema import SplitFractions
from slicewise.core.errors import SplitError
from slicewise.data.split.assignment import SUBSETS, Split, assign_subsets, select_groups

SHARES = SplitFractions(seed=5, train=0.7, val=0.15, test=0.15, folds=0, fold=0)


def members(*names: str) -> frozenset[tuple[str, str]]:
    return frozenset(("brats", name) for name in names)


def whole_split(num_volumes: int = 30, num_pictures: int = 20) -> Split:
    groups = {
        "brats": [f"p{number}" for number in range(num_volumes)],
        "pictures": [f"p{number}" for number in range(num_pictures)],
    }
    return Split.of({source: assign_subsets(names, SHARES, 5) for source, names in groups.items()}, 5, SHARES)


def test_a_patient_on_two_sides_is_refused_by_name() -> None:
    with pytest.raises(SplitError, match=r"1 patients are in both train and test: brats/b"):
        Split(members("a", "b"), members("c"), members("b"))


def test_many_leaks_are_counted_and_the_first_named() -> None:
    names = [f"p{number:02d}" for number in range(12)]
    with pytest.raises(SplitError, match=r"12 patients are in both train and val: brats/p00, .* and 7 more"):
        Split(members(*names), members(*names), members("z"))


def test_an_empty_side_is_refused() -> None:
    with pytest.raises(SplitError, match="no patient of brats is left for val"):
        Split(members("a"), members(), members("b"))
    with pytest.raises(SplitError, match="any source"):
        Split(members(), members(), members())


def test_an_empty_side_of_one_source_is_refused() -> None:
    with pytest.raises(SplitError, match="no patient of pictures is left for test"):
        Split(members("a") | {("pictures", "a")}, members("b") | {("pictures", "b")}, members("c"))


def test_the_same_name_in_two_sources_is_two_patients() -> None:
    two = [members(name) | {("pictures", name)} for name in ("a", "b", "c")]
    assert Split(two[0], two[1], two[2]).keep(members("a", "b", "c")).sources == ["brats"]
    Split(two[0], two[1] | {("pictures", "x")}, members("x") | {("pictures", "y")})


def test_json_is_readable_and_comes_back() -> None:
    split = whole_split()
    text = json.dumps(split.to_json())
    assert Split.from_json(json.loads(text)) == split
    value = json.loads(text)
    assert value["seed"] == 5
    assert value["fractions"] == {"train": 0.7, "val": 0.15, "test": 0.15, "folds": 0, "fold": 0}
    assert value["counts"]["brats"] == {"train": 21, "val": 5, "test": 4}
    assert value["sources"]["brats"]["val"] == sorted(value["sources"]["brats"]["val"])


def test_a_leak_written_into_the_file_is_found() -> None:
    value = whole_split().to_json()
    value["sources"]["brats"]["test"].append(value["sources"]["brats"]["train"][0])
    with pytest.raises(SplitError, match="in both train and test"):
        Split.from_json(value)


@pytest.mark.parametrize(
    "value", [{}, {"sources": []}, {"sources": {"a": {}}}, {"sources": {}, "fractions": 3}]
)
def test_a_damaged_file_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(SplitError, match="move it aside and run again"):
        Split.from_json(value)


def test_keeping_what_is_there_moves_nobody() -> None:
    split = whole_split()
    present = {member for member in split.train | split.val | split.test if not member[1].endswith("1")}
    kept = split.keep(present)
    assert kept.train == split.train & present
    assert kept.seed == split.seed
    with pytest.raises(SplitError, match="no patient of pictures is left for train"):
        split.keep(split.val | split.test | {member for member in split.train if member[0] == "brats"})


@given(number=st.integers(6, 150), fraction=st.floats(0.01, 1), seed=st.integers(0, 3))
def test_a_patient_never_changes_side_between_modes(number: int, fraction: float, seed: int) -> None:
    names = [f"p{index}" for index in range(number)]
    sides = {"brats": assign_subsets(names, SHARES, seed)}
    everyone = Split.of(sides)
    chosen = select_groups(sides["brats"], fraction, 6)
    narrow = everyone.keep(("brats", name) for name in chosen)
    for side in SUBSETS:
        assert narrow.subset(side) <= everyone.subset(side)
    assert len(narrow.train | narrow.val | narrow.test) == len(chosen)
