from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from slicewise.config.schema import SplitSettings
from slicewise.core.errors import SplitError
from slicewise.data.split.assignment import Subset
from slicewise.data.split.predefined import (
    Member,
    PredefinedSplit,
    SubsetsByMember,
    match_folders,
    match_split_file,
    resolve_split,
)

ROOTS = {"brats": Path("/data/brats"), "kaggle": Path("/data/kaggle")}


def settings(**changes: Any) -> SplitSettings:
    fields: dict[str, Any] = {
        "seed": 0, "train": 0.7, "val": 0.15, "test": 0.15, "folds": 0, "fold": 0, "file": "a.csv",
        "folders": False, "unlisted": "error", "overlap": "refuse", "external": False,
    }  # fmt: skip
    return SplitSettings(**{**fields, **changes})


def patient(name: str, visit: str = "", folder: str = "") -> Member:
    case = f"{name}{visit}"
    files = [PurePosixPath(folder, case, f"{case}_{what}.nii.gz") for what in ("t1", "flair")]
    return Member("brats", name, case, frozenset((name, case)), tuple(files))


def picture(*paths: str, family: str = "") -> Member:
    name = paths[0].replace("/", "-").rpartition(".")[0]
    places = tuple(map(PurePosixPath, paths))
    return Member("kaggle", family or name, name, frozenset((family or name, name)), places, is_picture=True)


PATIENTS = [patient(f"P{number:02d}") for number in range(20)]


def followed(members: Sequence[Member], listed: dict[str, Subset], **changes: Any) -> PredefinedSplit:
    found = match_split_file(listed, members, ROOTS, {})
    given = resolve_split(found, settings(**changes), None, members[0].source)
    assert given is not None
    return given


def of(given: PredefinedSplit, side: Subset) -> list[str]:
    return sorted(group for group, its_side in given.subsets.items() if its_side == side)


def test_every_name_goes_where_the_file_says() -> None:
    listed: dict[str, Subset] = {
        member.case: "train" if number < 12 else "val" if number < 15 else "test"
        for number, member in enumerate(PATIENTS)
    }
    given = followed(PATIENTS, listed)
    assert given.subsets == listed
    assert (given.left_out, given.drawn) == ({}, ())


def test_where_the_test_patients_alone_are_named_the_others_are_train_and_val() -> None:
    given = followed(PATIENTS, {"P03": "test", "P07": "test"})
    assert of(given, "test") == ["P03", "P07"]
    assert len(of(given, "val")) == 3  # 0.15 of 0.85
    assert len(given.subsets) == len(PATIENTS)
    assert given.drawn == ("train", "val")
    assert given.left_out == {}


def test_val_is_drawn_from_those_to_train_on_where_none_is_named() -> None:
    listed: dict[str, Subset] = {
        **{f"P{number:02d}": "train" for number in range(18)},
        "P18": "test",
        "P19": "test",
    }
    given = followed(PATIENTS, listed)
    assert of(given, "test") == ["P18", "P19"]
    assert len(of(given, "val")) == 3
    assert given.drawn == ("val",)
    assert given.left_out == {}
    assert followed(PATIENTS, listed, seed=1).subsets != given.subsets


def test_cases_without_a_name_are_an_error_or_left_out() -> None:
    listed: dict[str, Subset] = {"P00": "train", "P01": "train", "P02": "test"}
    with pytest.raises(SplitError, match=r"in no subset \(17\): P03, P04.*split\.unlisted=exclude"):
        followed(PATIENTS, listed)
    given = followed(PATIENTS, listed, unlisted="exclude")
    assert sorted(given.subsets) == ["P00", "P01", "P02"]
    assert set(given.left_out) == {member.case for member in PATIENTS[3:]}


@pytest.mark.parametrize(
    "name",
    [
        "TCGA_1", "TCGA_1_1999", "sub/TCGA_1_1999", "sub/TCGA_1_1999/TCGA_1_1999_t1.nii.gz",
        "TCGA_1_1999_t1.nii.gz", "TCGA_1_1999_flair", "./sub/TCGA_1_1999/", "sub\\TCGA_1_1999",
        "brats/TCGA_1", "/data/brats/sub/TCGA_1_1999",
    ],
)  # fmt: skip
def test_a_name_may_be_a_patient_a_case_a_file_or_a_folder(name: str) -> None:
    members = [patient("TCGA_1", "_1999", "sub"), *PATIENTS]
    assert of(followed(members, {name: "test"}), "test") == ["TCGA_1"]


def test_a_folder_stands_for_all_below_it() -> None:
    members = [patient(f"A{number}", folder="x/north") for number in range(3)]
    members += [patient(f"B{number}", folder="x/south") for number in range(3)]
    for name in ("x/south", "south"):
        assert of(followed(members, {name: "test"}), "test") == ["B0", "B1", "B2"]


def test_names_that_fit_no_case_are_listed_with_close_ones() -> None:
    with pytest.raises(
        SplitError, match=r"fit no usable case \(2\): P21 \(close: P19, P18, P17\); Q \(nothing close\)"
    ):
        match_split_file({"P21": "test", "Q": "train", "P02": "test"}, PATIENTS, ROOTS, {})


def test_a_case_that_cannot_be_used_is_named_with_the_reason() -> None:
    unusable = {"/data/brats/P77/P77_seg.nii.gz": "the file is empty"}
    with pytest.raises(SplitError, match=r"P77 \(left out: the file is empty\)"):
        match_split_file({"P77": "test"}, PATIENTS, ROOTS, unusable)


def test_a_file_name_in_several_folders_must_be_a_path() -> None:
    members = [picture("yes/1.jpg"), picture("no/1.jpg"), picture("no/2.jpg"), picture("no/3.jpg")]
    for name in ("1.jpg", "1"):
        with pytest.raises(SplitError, match=r"is the name of 2 files or folders: no/1\.jpg, yes/1\.jpg"):
            followed(members, {name: "test"})
    assert of(followed(members, {"no/1.jpg": "test"}), "test") == ["no-1"]


def test_a_name_of_two_sources_must_say_which() -> None:
    members = [patient("P1"), Member("kaggle", "P1", "P1", frozenset({"P1"}))]
    with pytest.raises(SplitError, match="is in brats and kaggle; write brats/P1"):
        match_split_file({"P1": "test"}, members, ROOTS, {})
    assert match_split_file({"kaggle/P1": "test"}, members, ROOTS, {}) == {
        members[0]: frozenset(),
        members[1]: frozenset({"test"}),
    }


VISITS = [patient("P1", "_1"), patient("P1", "_2"), patient("P2"), patient("P3"), patient("P4")]


def test_visits_of_a_patient_in_two_subsets_are_refused_or_only_tested() -> None:
    listed: dict[str, Subset] = {"P1_1": "train", "P1_2": "test", "P2": "train", "P3": "val", "P4": "train"}
    with pytest.raises(SplitError, match=r"in several subsets.*\(1\): P1 \(train: P1_1; test: P1_2\)"):
        followed(VISITS, listed)
    given = followed(VISITS, listed, overlap="exclude")
    assert given.subsets == {"P1": "test", "P2": "train", "P3": "val", "P4": "train"}
    assert list(given.left_out) == ["P1_1"]


def test_a_visit_that_is_not_named_is_not_trained_on() -> None:
    """The patient is tested by the other visit, and only that visit was named."""
    given = followed(VISITS, {"P1_2": "test"})
    assert given.subsets["P1"] == "test"
    assert list(given.left_out) == ["P1_1"]


PICTURES = [
    picture("Testing/yes/1.jpg", "Training/yes/9.jpg"),  # pixel for pixel the same
    picture("Testing/yes/2.jpg", family="near"),
    picture("Training/yes/3.jpg", family="near"),
    *(picture(f"Training/no/{number}.jpg") for number in range(8)),
]


def by_folders(members: Sequence[Member], **changes: Any) -> PredefinedSplit | None:
    return resolve_split(match_folders(members), settings(file=None, folders=True, **changes), None, "kaggle")


def test_copies_across_folders_are_refused_or_only_tested() -> None:
    with pytest.raises(SplitError) as refused:
        by_folders(PICTURES)
    assert "(2): Testing-yes-1 (test and train: Testing/yes/1.jpg = Training/yes/9.jpg)" in str(refused.value)
    assert "near (test: Testing/yes/2.jpg; train: Training/yes/3.jpg)" in str(refused.value)
    given = by_folders(PICTURES, overlap="exclude")
    assert given is not None
    assert of(given, "test") == ["Testing-yes-1", "near"]
    assert list(given.left_out) == ["Training-yes-3"]
    assert given.drawn == ("val",)


@pytest.mark.parametrize(
    ("path", "side"),
    [
        ("Training/yes/1.jpg", "train"), ("TEST/1.jpg", "test"), ("set/valid/no/1.jpg", "val"),
        ("BraTS2020_TrainingData/x/1.jpg", "train"), ("MICCAI-ValidationData/x/1.jpg", "val"),
        ("test/BraTS20_Training_001/a.nii", "test"), ("a/testing_images/yes/1.jpg", "test"),
        ("BraTS20_Training_001/a.nii", None), ("latest/yes/1.jpg", None), ("1.jpg", None),
        ("contrast/x/1.jpg", None),
    ],
)  # fmt: skip
def test_folders_say_the_subset(path: str, side: Subset | None) -> None:
    anchor = picture("train/anchor.jpg")
    found = match_folders([picture(path), anchor])
    assert found[picture(path)] == frozenset({side} if side else ())


def test_folders_that_say_no_subset_are_named() -> None:
    with pytest.raises(SplitError, match=r"there are: no, yes"):
        match_folders([picture("yes/1.jpg"), picture("no/1.jpg")])


def test_a_source_without_a_name_is_for_the_seed() -> None:
    found: SubsetsByMember = {member: frozenset() for member in PATIENTS}
    assert resolve_split(found, settings(), None, "brats") is None


@pytest.mark.parametrize(
    ("listed", "said"),
    [({"P00": "train"}, "for test"), ({member.case: "test" for member in PATIENTS}, "for train")],
)
def test_a_source_needs_patients_to_train_on_and_to_test(listed: dict[str, Subset], said: str) -> None:
    with pytest.raises(SplitError, match=f"names no case of brats {said}"):
        followed(PATIENTS, listed, unlisted="exclude")


def test_a_lone_training_patient_leaves_none_for_val() -> None:
    with pytest.raises(SplitError, match="name a patient for val"):
        followed(PATIENTS, {"P00": "train", "P01": "test"}, unlisted="exclude")
