from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.imaging.brains import brain, pictures

from slicewise.imaging.io.image2d import read_picture
from slicewise.imaging.plausibility import RANGES, judge, measure
from slicewise.imaging.skull import SKULL, ring_contrast

DATA = Path(__file__).parents[3] / "shared" / "data"
SETS = ("kaggle_mri", "kaggle_4class")


def saved(pictures: Iterator[tuple[str, NDArray[np.uint8]]], folder: Path) -> Iterator[tuple[str, Path]]:
    for number, (name, pixels) in enumerate(pictures):
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        yield name, path


def is_plausible(path: Path) -> bool:
    picture = read_picture(path)
    return judge(picture.pixels, picture.colour).is_plausible


def test_of_pictures_that_are_no_brain_at_least_95_of_100_are_caught(tmp_path: Path) -> None:
    verdicts = {name: is_plausible(path) for name, path in saved(pictures(), tmp_path)}
    missed = [name for name, plausible in verdicts.items() if plausible]
    assert len(verdicts) >= 60
    assert len(missed) <= 0.05 * len(verdicts), missed


@pytest.mark.skipif(not DATA.is_dir(), reason="real pictures are not beside the checkout")
@pytest.mark.parametrize("name", SETS)
def test_of_real_pictures_of_brains_at_most_2_of_100_are_doubted(name: str) -> None:
    suffixes = (".jpg", ".jpeg", ".png")
    paths = [path for path in sorted((DATA / name).rglob("*.*")) if path.suffix.lower() in suffixes]
    doubted = [path.name for path in paths if not is_plausible(path)]
    assert len(paths) > 200
    assert len(doubted) <= 0.02 * len(paths), doubted


@pytest.mark.parametrize("skull", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.01, 60.0])
def test_a_brain_is_plausible_in_any_unit_and_size(scale: float, skull: bool) -> None:
    for side in (96, 160, 400):
        assert judge(brain(side, skull=skull) * scale).is_plausible


def test_the_strongest_reason_comes_first() -> None:
    noise = np.random.default_rng(0).uniform(0, 255, (128, 128))
    verdict = judge(noise)
    assert not verdict.is_plausible
    assert len(verdict.reasons) == len({*verdict.reasons}) > 1
    assert verdict.reasons[0] == RANGES[max(verdict.excess, key=lambda trait: verdict.excess[trait])].reason
    assert judge(brain(), colour=0.4).reasons == ("it has colours",)
    assert judge(brain()).reasons == ()


def test_every_trait_has_a_range() -> None:
    assert {*measure(brain())} | {"colour"} == {*RANGES}
    dot = np.zeros((64, 64))
    dot[3, 3] = 1
    assert measure(dot) == {"area": 0.0}


def test_colours_are_counted_whatever_the_kind_of_file(tmp_path: Path) -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    half = np.stack([grey] * 3, axis=-1)
    half[:32, :, 2] = 0
    for name, pixels in (("grey", grey), ("equal", np.stack([grey] * 3, -1)), ("half", half)):
        for suffix in ("png", "tif"):
            Image.fromarray(pixels).save(tmp_path / f"{name}.{suffix}")
        Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / f"{name}.gif")
    for suffix in ("png", "tif", "gif"):
        shares = [read_picture(tmp_path / f"{name}.{suffix}").colour for name in ("grey", "equal", "half")]
        assert shares[:2] == [0, 0]
        assert shares[2] == pytest.approx(0.45, abs=0.06)


def test_bone_beneath_the_scalp_is_a_dark_ring() -> None:
    with_skull, stripped = ring_contrast(brain(skull=True)), ring_contrast(brain())
    assert with_skull > 2 * SKULL
    assert stripped < SKULL
    assert np.isnan(ring_contrast(np.zeros((32, 32))))
