from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from slicewise.core.errors import PictureError
from slicewise.data.cases import CaseFiles
from slicewise.data.duplicates import (
    RADIUS,
    PictureHash,
    group_near_duplicates,
    group_pictures,
    hash_picture,
)
from slicewise.domain.keys import CaseKey

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"


def picture(seed: int, side: int = 128) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def case(path: Path, label: int) -> CaseFiles:
    key = CaseKey("x", path.stem, path.stem)
    return CaseFiles(key, "class_folders", ("flair",), (path,), (), label, path.stem)


def grouped(pictures: dict[Path, int]) -> tuple[dict[str, str], Counter[str]]:
    cases = [case(path, label) for path, label in pictures.items()]
    kept, problems = group_pictures(cases, [hash_picture(path) for path in pictures])
    return {case.key.case: case.group for case in kept}, Counter(problem.severity for problem in problems)


def flipped(start: bytes, bits: int) -> bytes:
    array = np.unpackbits(np.frombuffer(start, np.uint8))
    array[:bits] ^= 1
    return np.packbits(array).tobytes()


def test_colour_and_format_do_not_hide_an_identical_picture(tmp_path: Path) -> None:
    for name, mode in (("a", "L"), ("b", "RGB"), ("c", "RGBA")):
        picture(1).convert(mode).save(tmp_path / f"{name}.png")
    groups, severities = grouped({tmp_path / f"{name}.png": 1 for name in "abc"})
    assert list(groups) == ["a"]
    assert severities == {"note": 2}


def test_changes_that_keep_the_picture_keep_the_family(tmp_path: Path) -> None:
    original = picture(1)
    marked = original.copy()
    ImageDraw.Draw(marked).text((4, 4), "L", fill=255)
    original.save(tmp_path / "a.png")
    original.save(tmp_path / "b.jpg", quality=40)
    original.resize((70, 90)).save(tmp_path / "c.png")
    original.point(lambda value: value * 0.8).save(tmp_path / "d.png")
    marked.save(tmp_path / "e.png")
    picture(2).save(tmp_path / "other.png")
    groups, severities = grouped(dict.fromkeys(sorted(tmp_path.iterdir()), 1))
    assert len({groups[name] for name in "abcde"}) == 1
    assert groups["other"] != groups["a"]
    assert severities == {}


def test_another_margin_around_the_head_is_the_same_picture(tmp_path: Path) -> None:
    pad = Image.new("L", (200, 210))
    for name, seed in (("a", 1), ("other", 2)):
        pad.paste(0, (0, 0, *pad.size))
        pad.paste(picture(seed).point(lambda value: 60 + value * 0.7), (36, 41))
        pad.save(tmp_path / f"{name}.png")
        if name == "a":
            pad.crop((30, 30, 172, 180)).resize((142, 150)).save(tmp_path / "b.png")
            pad.crop((34, 10, 200, 171)).save(tmp_path / "c.png")
    groups, _ = grouped(dict.fromkeys(sorted(tmp_path.iterdir()), 1))
    assert groups["a"] == groups["b"] == groups["c"] != groups["other"]


def test_sixteen_bit_pictures_are_compared_too(tmp_path: Path) -> None:
    original = picture(1)
    original.save(tmp_path / "a.png")
    Image.fromarray(np.asarray(original).astype(np.uint16) * 257).save(tmp_path / "b.png")
    groups, _ = grouped({tmp_path / "a.png": 1, tmp_path / "b.png": 1})
    assert groups["a"] == groups["b"]


def test_the_group_depends_on_neither_name_nor_order(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.jpg", quality=60)
    forward, _ = grouped({tmp_path / "a.png": 1, tmp_path / "b.jpg": 1})
    (tmp_path / "a.png").rename(tmp_path / "z.png")
    backward, _ = grouped({tmp_path / "b.jpg": 1, tmp_path / "z.png": 1})
    assert forward["a"] == forward["b"] == backward["b"] == backward["z"]


def test_a_picture_under_both_labels_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(1).save(tmp_path / f"{name}.png")
    picture(2).save(tmp_path / "c.png")
    groups, severities = grouped({tmp_path / "a.png": 1, tmp_path / "b.png": 0, tmp_path / "c.png": 0})
    assert list(groups) == ["c"]
    assert severities == {"error": 2}


def test_near_pictures_with_two_labels_are_kept_together_and_said(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.jpg", quality=50)
    groups, severities = grouped({tmp_path / "a.png": 1, tmp_path / "b.jpg": 0})
    assert groups["a"] == groups["b"]
    assert severities == {"warning": 2}


def test_both_hashes_must_be_near() -> None:
    start = bytes(32)
    at, over = flipped(start, RADIUS), flipped(start, RADIUS + 1)
    prints = [
        PictureHash(str(n), (pair,)) for n, pair in enumerate([(start, start), (at, at), (over, start)])
    ]
    assert group_near_duplicates(prints[:2]) == [[0, 1]]
    assert group_near_duplicates([prints[0], prints[2]]) == [[0], [1]]


def test_a_chain_is_one_family_across_blocks() -> None:
    hashes = [flipped(bytes(32), RADIUS * step) for step in range(4)]
    filler = [np.random.default_rng(n).bytes(32) for n in range(1200)]
    everything = [hashes[0], *filler[:600], hashes[1], *filler[600:], hashes[2], hashes[3]]
    families = group_near_duplicates([PictureHash(str(n), ((h, h),)) for n, h in enumerate(everything)])
    assert sorted(map(len, families)) == [1] * 1200 + [4]
    assert [0, 601, 1202, 1203] in families


def test_no_pictures_are_no_families() -> None:
    assert group_near_duplicates([]) == []
    assert group_pictures([], []) == ([], [])


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"x\.jpg is not a picture"):
        hash_picture(tmp_path / "x.jpg")


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="real pictures are not beside the checkout")
def test_no_chain_runs_through_real_pictures_of_different_patients() -> None:
    paths = sorted(
        path
        for folder in ("kaggle_mri", "kaggle_4class")
        for path in (SHARED / folder).rglob("*")
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    cases = [
        CaseFiles(CaseKey("x", str(n), str(n)), "class_folders", ("flair",), (path,), (), 1, str(n))
        for n, path in enumerate(paths)
    ]
    kept, _ = group_pictures(cases, [hash_picture(path) for path in paths])
    sizes = Counter(Counter(case.group for case in kept).values())
    assert len(paths) - len(kept) == 39
    assert sizes == {1: 427, 2: 46, 3: 5}
