"""Who is on which side of the split, from what was found."""

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

SOURCE = "kaggle_mri"
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
        f"data.sources.pictures.path={tmp_path / 'pictures'}",
    )
    return Pipeline(tmp_path / "workspace", overrides)


def sides(pipeline: Pipeline) -> dict[str, dict[str, str]]:
    """Return {side: {picture: its folder}} of the split that a run would use."""
    split: Any = read_json(pipeline.workspace / "data" / "split" / "split.json")
    index: Any = read_json(pipeline.workspace / "data" / "index" / "index.json")
    images = {case["group"]: Path(*case["images"]) for case in index["cases"] if case["source"] == SOURCE}
    return {
        side: {images[group].name: images[group].parts[0] for group in groups}
        for side, groups in split["sources"][SOURCE].items()
    }


def test_pictures_of_a_training_folder_are_never_held_out(pipeline: Pipeline) -> None:
    assert pipeline.run("--mode", "data-only") == 0
    mixed = sides(pipeline)
    assert "more" in {*mixed["val"].values(), *mixed["test"].values()}
    apart = pipeline.with_overrides("data.sources.pictures.train_only=[more]")
    assert apart.run("--mode", "data-only") == 0
    found = sides(apart)
    assert list(found["train"].values()).count("more") == NUM_MORE
    assert {*found["val"].values(), *found["test"].values()} == {"tested"}
    assert sum(map(len, found.values())) == NUM_TESTED + NUM_MORE


def test_the_others_are_divided_as_if_they_were_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    apart = pipeline.with_overrides("data.sources.pictures.train_only=[more]")
    assert apart.run("--mode", "data-only") == 0
    alone = Pipeline(tmp_path / "alone", pipeline.overrides).with_overrides(
        f"data.sources.pictures.path={tmp_path / 'pictures' / 'tested'}"
    )
    assert alone.run("--mode", "data-only") == 0
    for side, pictures in sides(apart).items():
        tested = {name for name, folder in pictures.items() if folder == "tested"}
        assert tested == set(sides(alone)[side])


@pytest.mark.parametrize("folds", [3, 5])
def test_every_fold_has_somebody_to_test_and_to_choose_by(pipeline: Pipeline, folds: int) -> None:
    """Also at a scale that takes few of those who are known."""
    few = pipeline.with_overrides(
        "data.sources.pictures.train_only=[more]", "scale.fraction=0.5", "scale.min_pictures=1"
    )
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
    assert set(tested) < taking_part
    assert {side for group, side in sides.items() if group not in tested} == {"train"}


def indexed(pipeline: Pipeline) -> Path:
    """List the data once; return the folder of the index."""
    folder = pipeline.workspace / "data" / "index"
    if not folder.exists():
        assert pipeline.run("--until", "download") == 0
    return folder


def test_a_folder_that_is_not_there_is_named(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert pipeline.run("--mode", "data-only", "data.sources.pictures.train_only=[moer]") == 1
    err = capsys.readouterr().err
    assert "data.sources.pictures.train_only names moer" in err
    assert "there are: more, tested" in err
