import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.core.errors import DataError
from slicewise.data.index import CaseIndex

SHARED = Path(__file__).resolve().parents[3] / "../shared/data"


def picture(seed: int, mode: str = "L") -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).convert(mode)


def save(path: Path, image: Image.Image, kind: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind)
    return path


def test_every_extension_and_mode_is_found(tmp_path: Path) -> None:
    save(tmp_path / "brain_tumor_dataset/yes/Y1.jpg", picture(1, "RGB"))
    save(tmp_path / "brain_tumor_dataset/yes/Y2.JPG", picture(2), "JPEG")
    save(tmp_path / "brain_tumor_dataset/yes/Y3.jpeg", picture(3, "RGBA"), "PNG")
    save(tmp_path / "brain_tumor_dataset/no/1 no.png", picture(4, "P"))
    save(tmp_path / "brain_tumor_dataset/no/2no.PNG", picture(5, "LA"))
    (tmp_path / "brain_tumor_dataset/no/notes.txt").touch()
    cases, (notes,) = discover("class_folders", tmp_path, "kaggle_mri", slot="t2")
    assert (notes.path.name, notes.severity) == ("notes.txt", "note")
    assert [case.label for case in cases] == [0, 0, 1, 1, 1]
    assert {case.modalities for case in cases} == {("t2",)}
    assert cases[0].key.case == "brain_tumor_dataset-no-1-no"
    assert len({case.group for case in cases}) == 5


def test_four_classes_become_two(tmp_path: Path) -> None:
    names = ("glioma_tumor", "meningioma_tumor", "pituitary_tumor", "no_tumor")
    for index, name in enumerate(names):
        save(tmp_path / "Training" / name / "image(1).jpg", picture(index))
        save(tmp_path / "Testing" / name / "image(1).jpg", picture(10 + index))
    cases, problems = discover("class_folders", tmp_path, "four")
    assert problems == []
    assert len({case.key for case in cases}) == 8
    assert sum(case.label or 0 for case in cases) == 6


def test_pictures_without_a_label_are_counted_and_ignored(tmp_path: Path) -> None:
    save(tmp_path / "yes/y1.jpg", picture(1))
    save(tmp_path / "no/no1.jpg", picture(2))
    save(tmp_path / "pred/pred0.jpg", picture(3))
    save(tmp_path / "pred/yes/pred1.jpg", picture(4))
    save(tmp_path / "Br35H-Mask-RCNN/TRAIN/y1.jpg", picture(1))
    cases, problems = discover("class_folders", tmp_path, "br35h")
    assert len(cases) == 2
    assert {(problem.path.name, problem.severity) for problem in problems} == {
        ("pred", "note"), ("yes", "note"), ("TRAIN", "note"),
    }  # fmt: skip
    assert all(problem.what.startswith("1 pictures without a label") for problem in problems)


def test_masks_and_overlays_beside_pictures_are_no_pictures(tmp_path: Path) -> None:
    save(tmp_path / "yes/Y0.jpg", picture(1))
    save(tmp_path / "no/N0.jpg", picture(2))
    others = [f"yes/Y0_{what}.png" for what in ("mask", "seg", "label", "gt", "overlay", "pred")]
    others += ["yes/masks/Y0.png", "masks/yes/Y0.png", "yes/Y0mask.png", "yes/mask_Y0.png"]
    for seed, name in enumerate(others, 10):
        save(tmp_path / name, picture(seed))
    cases, problems = discover("class_folders", tmp_path, "x")
    assert {case.images[0].name for case in cases} == {"Y0.jpg", "N0.jpg"}
    assert {problem.path.relative_to(tmp_path).as_posix() for problem in problems} == {*others}
    assert {problem.severity for problem in problems} == {"note"}


def test_a_folder_of_masks_alone_says_what_was_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "yes/Y0_mask.png", picture(1))
    with pytest.raises(DataError, match=r"1 x a mask, or a picture made from one(.|\n)*Y0_mask\.png"):
        discover("class_folders", tmp_path, "x")


def test_an_unreadable_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    whole = save(tmp_path / "yes/Y1.jpg", picture(1)).read_bytes()
    save(tmp_path / "no/N1.jpg", picture(2))
    bad = tmp_path / "yes/Y2.jpg"
    bad.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "yes/Y3.png").write_bytes(b"")
    cases, problems = discover("class_folders", tmp_path, "x")
    assert len(cases) == 2
    assert [(problem.path.name, problem.severity) for problem in problems] == [
        ("Y2.jpg", "error"),
        ("Y3.png", "error"),
    ]
    assert "damaged" in problems[0].what
    assert str(tmp_path) not in problems[0].what


def test_names_that_would_be_the_same_stay_apart(tmp_path: Path) -> None:
    for index, name in enumerate(("a b.jpg", "a-b.jpg", "A-B.jpg", "a b.png")):
        save(tmp_path / "yes" / name, picture(index))
    save(tmp_path / "no/n.jpg", picture(9))
    cases, _ = discover("class_folders", tmp_path, "x")
    assert len({case.key.case.lower() for case in cases}) == 5


@pytest.mark.parametrize("duplicates", ["group", "ignore"])
def test_copies_whose_names_would_be_the_same_are_numbered(tmp_path: Path, duplicates: str) -> None:
    for name in ("image(1).png", "image (1).png", "image-(1).png"):
        save(tmp_path / "yes" / name, picture(1))
    save(tmp_path / "no/n.png", picture(2))
    cases, problems = discover("class_folders", tmp_path, "x", duplicates=duplicates)
    index = CaseIndex.of({"x": tmp_path}, cases, problems)
    assert len(index.known["x"]) == len(index.cases) == (2 if duplicates == "group" else 4)


def test_repeats_and_near_repeats_cannot_cross_a_split(tmp_path: Path) -> None:
    original = picture(1)
    save(tmp_path / "yes/Y1.png", original)
    save(tmp_path / "yes/Y2.png", original.convert("RGB"))
    save(tmp_path / "yes/Y3.jpg", original.resize((90, 90)))
    save(tmp_path / "no/N1.png", picture(2))
    cases, (problem,) = discover("class_folders", tmp_path, "x")
    assert {case.images[0].name for case in cases} == {"Y1.png", "Y3.jpg", "N1.png"}
    assert len({case.group for case in cases if case.label == 1}) == 1
    assert (problem.path.name, problem.severity) == ("Y2.png", "note")


def test_duplicates_can_be_ignored_to_show_what_that_does(tmp_path: Path) -> None:
    save(tmp_path / "yes/Y1.png", picture(1))
    save(tmp_path / "yes/Y2.png", picture(1))
    save(tmp_path / "no/N1.png", picture(2))
    cases, (problem,) = discover("class_folders", tmp_path, "x", duplicates="ignore")
    assert len({case.group for case in cases}) == len(cases) == 3
    assert problem.severity == "warning"
    assert "too optimistic" in str(problem)


def test_one_label_alone_is_a_warning_and_none_an_error(tmp_path: Path) -> None:
    save(tmp_path / "set/yes/Y1.png", picture(1))
    _, (problem,) = discover("class_folders", tmp_path, "x")
    assert problem.severity == "warning"
    with pytest.raises(
        DataError, match=r"no readable picture with a label; expected pictures in folders named yes"
    ):
        discover("class_folders", save(tmp_path / "other/Y1.png", picture(1)).parent, "x")


@pytest.mark.parametrize("name", ["yes", "Brain Tumor"])
def test_what_the_data_set_itself_is_called_is_no_label(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    save(root / "no/N1.png", picture(1))
    for number, folder in enumerate(("axial", ".")):
        save(root / folder / "x.png", picture(2 + number))
    (case,), problems = discover("class_folders", root, "x")
    assert case.label == 0
    assert {problem.path for problem in problems if "1 pictures without a label" in problem.what} == {
        root, root / "axial",
    }  # fmt: skip


def test_formats_are_told_by_content(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture(1).save(buffer, "PNG")
    path = tmp_path / "yes/named.jpg"
    path.parent.mkdir()
    path.write_bytes(buffer.getvalue())
    (case,), _ = discover("class_folders", tmp_path, "x")
    assert case.images == (path,)


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="real pictures are not beside the checkout")
@pytest.mark.parametrize(
    ("folder", "files", "repeats", "groups"), [("kaggle_mri", 253, 25, 199), ("kaggle_4class", 320, 14, 293)]
)
def test_real_pictures_are_found_once(folder: str, files: int, repeats: int, groups: int) -> None:
    cases, problems = discover("class_folders", SHARED / folder, folder)
    assert [problem.severity for problem in problems] == ["note"] * repeats
    assert len(cases) == files - repeats
    assert len({case.group for case in cases}) == groups


def test_several_classes_are_numbered_and_none_is_missing(tmp_path: Path) -> None:
    names = ("glioma_tumor", "meningioma_tumor", "no_tumor", "other things")
    for index, name in enumerate(names):
        save(tmp_path / name / "image(1).jpg", picture(index))
    cases, (left,) = discover("class_folders", tmp_path, "three", classes=("glioma", "meningioma", "none"))
    assert {case.images[0].parent.name: case.label for case in cases} == {
        "glioma_tumor": 0, "meningioma_tumor": 1, "no_tumor": 2
    }  # fmt: skip
    assert left.severity == "warning"
    assert "1 pictures without a label (the folder is named none of glioma, meningioma, none)" in left.what
    with pytest.raises(DataError, match=r"no picture of the class pituitary; its folders are glioma_tumor,"):
        discover("class_folders", tmp_path, "four", classes=("glioma", "none", "pituitary"))
