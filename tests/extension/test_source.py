"""A kind of source of another package goes from the configuration through the whole pipeline."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import TINIEST, Pipeline
from tests.fixtures.packages import Install

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError

KEYS = ("data=lgg", "data.name=mine", "data.sources.volumes=null", "data.sources.mine.kind=mask_pairs")


@pytest.fixture
def installed(install: Install) -> None:
    install("sources", "mask_pairs = source:MaskPairs")


def draw_set(root: Path, count: int, *, first: int = 0) -> None:
    """Write heads of random blocks with a bright disk in three of four, and all masks but one."""
    rows, cols = np.mgrid[:64, :64]
    for number in range(first, first + count):
        texture = np.kron(np.random.default_rng(number).uniform(30, 120, (8, 8)), np.ones((8, 8)))
        head = np.hypot(rows - 32, cols - 32) < 24 + number % 5
        mask = np.hypot(rows - 24 - number % 9, cols - 30) < (6 if number % 4 else 0)
        pixels = ((texture + mask * 120) * head).clip(0, 255)
        for folder, array in (("images", pixels), ("masks", mask * 255.0)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(root / folder / f"p{number:02d}.png")
    (root / "masks" / f"p{first:02d}.png").unlink()


@pytest.mark.usefixtures("installed")
def test_two_sets_of_it_are_trained_on_and_scored(tmp_path: Path) -> None:
    draw_set(tmp_path / "a", 25)
    draw_set(tmp_path / "b", 19, first=25)
    shutil.copy(tmp_path / "a/images/p07.png", tmp_path / "b/images/again.png")
    shutil.copy(tmp_path / "a/masks/p07.png", tmp_path / "b/masks/again.png")
    tiny = [word for word in TINIEST if not word.startswith("data.")]
    more = (
        "data.sources.more.kind=mask_pairs",
        "stages.joint.sources.more=0.5",
        "stages.joint.sources.mine=0.5",
    )
    paths = (f"data.sources.mine.path={tmp_path / 'a'}", f"data.sources.more.path={tmp_path / 'b'}")
    pipeline = Pipeline(tmp_path / "work", (*tiny, *KEYS, *more, *paths))
    assert pipeline.run("--until", "evaluate") == 0

    problems = (tmp_path / "work/data/index/problems.txt").read_text()
    assert "a picture without its mask, left out" in problems
    assert "almost the same as a picture of mine, which is kept" in problems
    history = (tmp_path / "work/checkpoints/multitask_joint/history.csv").read_text()
    assert "auc_mine,auc_more" in history
    metrics = json.loads((tmp_path / "work/results/multitask_evaluation/metrics.json").read_text())
    assert {*metrics["sources"]} == {"mine", "more"}
    assert all(source["segmentation"] for source in metrics["sources"].values())


@pytest.mark.usefixtures("installed")
def test_its_own_keys_are_checked() -> None:
    config = compose([*KEYS, "data.sources.mine.masks=lesions", "stages.joint.sources.mine=1"])
    assert config.model_dump()["data"]["sources"]["mine"]["masks"] == "lesions"
    with pytest.raises(ConfigError, match=r"data\.sources\.mine\.mask: .*no such key"):
        compose([*KEYS, "data.sources.mine.mask=x"])


def test_a_kind_that_nobody_offers_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'image_folders' is unknown.*class_folders"):
        compose([*KEYS, "data.sources.mine.kind=image_folders"])
