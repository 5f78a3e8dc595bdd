"""Who is on which side of the split, from what was found."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Pipeline
from tests.test_bad_input import SETTINGS, write_patient

from slicewise.config.compose import compose
from slicewise.core.files import read_json
from slicewise.data.index import CaseIndex
from slicewise.workflow.participants import select_cases, split_source

NUM_TESTED, NUM_MORE = 12, 6


def write_set(root: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)
        path = root / ("yes" if number % 2 else "no") / f"P{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    for number in range(1, 4):
        write_patient(tmp_path / "patients", number)
    write_set(tmp_path / "pictures" / "tested", 0, NUM_TESTED)
    write_set(tmp_path / "pictures" / "more", 100, NUM_MORE)
    overrides = (
        *(word for word in SETTINGS if word != "data.sources.pictures=null"),
        f"data.sources.volumes.path={tmp_path / 'patients'}",
        f"data.sources.pictures.path={tmp_path / 'pictures' / 'tested'}",
        "data.sources.more.kind=class_folders",
        "data.sources.more.role=train_only",
        f"data.sources.more.path={tmp_path / 'pictures' / 'more'}",
        "stages.joint.sources.more=0.2",
    )
    return Pipeline(tmp_path / "workspace", overrides)


def sides(pipeline: Pipeline) -> dict[str, dict[str, list[str]]]:
    """Return {source: {side: groups}} of the split that a run would use."""
    split: Any = read_json(pipeline.workspace / "data" / "split" / "split.json")
    return {name: split["sources"][name] for name in ("kaggle_mri", "more")}


def test_a_source_for_training_is_never_held_out_and_gives_way(pipeline: Pipeline, tmp_path: Path) -> None:
    tested, more = tmp_path / "pictures" / "tested" / "yes", tmp_path / "pictures" / "more" / "no"
    shutil.copy(tested / "P1.png", more / "again.png")
    assert pipeline.run("--mode", "data-only") == 0
    found = sides(pipeline)
    assert {side: len(groups) for side, groups in found["more"].items()} == {
        "train": NUM_MORE, "val": 0, "test": 0,
    }  # fmt: skip
    assert sum(map(len, found["kaggle_mri"].values())) == NUM_TESTED
    assert (
        "almost the same as a picture of kaggle_mri, which is kept"
        in (pipeline.workspace / "data" / "index" / "problems.txt").read_text()
    )
    alone = Pipeline(tmp_path / "alone", tuple(word for word in pipeline.overrides if "more" not in word))
    assert alone.run("--mode", "data-only") == 0
    split: Any = read_json(alone.workspace / "data" / "split" / "split.json")
    assert split["sources"]["kaggle_mri"] == found["kaggle_mri"]


@pytest.mark.parametrize("folds", [3, 5])
def test_every_fold_has_somebody_to_test_and_to_choose_by(pipeline: Pipeline, folds: int) -> None:
    """Also at a scale that takes few of those who are known."""
    few = pipeline.with_overrides("scale.fraction=0.5", "scale.min_pictures=1")
    tested: list[str] = []
    for fold in range(1, folds + 1):
        folded = few.with_overrides(f"split.folds={folds}", f"split.fold={fold}", "scale.min_patients=6")
        config = compose([*folded.overrides])
        index = CaseIndex.read(indexed(few) / "index.json", few.workspace)
        sides = split_source(config, config.data.sources["pictures"], index)
        assert {"train", "val", "test"} == set(sides.values())
        tested += [group for group, side in sides.items() if side == "test"]
    assert len(tested) == len(set(tested))
    alone = compose([*few.overrides])
    taking_part = {case.group for case in select_cases(alone, alone.data.sources["pictures"], index)}
    assert set(tested) == taking_part
    assert set(split_source(config, config.data.sources["more"], index).values()) == {"train"}


def indexed(pipeline: Pipeline) -> Path:
    """List the data once; return the folder of the index."""
    folder = pipeline.workspace / "data" / "index"
    if not folder.exists():
        assert pipeline.run("--until", "download") == 0
    return folder
