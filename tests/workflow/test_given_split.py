"""The users' own split, from the command line to the split that a run uses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import REAL_DATA, Pipeline
from tests.test_bad_input import SETTINGS, write_patient

from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError
from slicewise.core.files import read_json
from slicewise.steps.download import DOWNLOAD
from slicewise.steps.preprocess import PREPROCESS
from slicewise.steps.split import SPLIT
from slicewise.workflow.participants import PREDEFINED_KEYS

NUM_PATIENTS = 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(1, NUM_PATIENTS + 1):
        write_patient(tmp_path / "data", number)
    return tmp_path / "data"


@pytest.fixture
def pipeline(tmp_path: Path, data: Path) -> Pipeline:
    return Pipeline(tmp_path / "workspace", (*SETTINGS, f"data.sources.volumes.path={data}"))


def split_of(pipeline: Pipeline) -> Any:
    return read_json(pipeline.workspace / "data" / "split" / "split.json")


def given_file(tmp_path: Path, **subsets: list[int]) -> str:
    path = tmp_path / "mine.json"
    named = {side: [f"BraTS2021_{number:05d}" for number in numbers] for side, numbers in subsets.items()}
    path.write_text(json.dumps(named), encoding="utf-8")
    return f"split.file={path}"


def test_a_file_is_followed_and_its_content_is_compared(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = given_file(tmp_path, test=[2, 5])
    assert pipeline.run("--mode", "data-only", word) == 0
    split = split_of(pipeline)
    assert split["sources"]["brats"]["test"] == ["BraTS2021_00002", "BraTS2021_00005"]
    assert split["counts"]["brats"] == {"train": 5, "val": 1, "test": 2}
    assert split["given"] == {"brats": {"by": "file", "drawn": ["train", "val"], "left_out": {}}}
    receipt: Any = read_json(pipeline.workspace / "data" / "split" / ".receipt.json")
    assert "mine.json" in receipt["identity"]["inputs"]["split.file"]

    capsys.readouterr()
    assert pipeline.run("--mode", "data-only", word) == 0
    assert "nothing had to run; 3 reused" in capsys.readouterr().out
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(tmp_path / "mine.json", elsewhere)
    assert pipeline.run("--mode", "data-only", f"split.file={elsewhere / 'mine.json'}") == 0
    assert "nothing had to run; 3 reused" in capsys.readouterr().out

    word = given_file(tmp_path, test=[2, 6])
    assert pipeline.run("--mode", "data-only", word) == 0
    assert "split.file: mine.json changed" in capsys.readouterr().out
    assert split_of(pipeline)["sources"]["brats"]["test"] == ["BraTS2021_00002", "BraTS2021_00006"]


def test_all_who_are_named_for_test_are_tested_at_any_scale(pipeline: Pipeline, tmp_path: Path) -> None:
    word = given_file(tmp_path, test=[1, 2, 3, 4])
    small = pipeline.with_overrides(word, "scale.fraction=0.01", "scale.min_patients=1")
    assert small.run("--mode", "data-only") == 0
    assert split_of(small)["counts"]["brats"] == {"train": 1, "val": 1, "test": 4}


def test_folders_are_followed(pipeline: Pipeline, data: Path) -> None:
    for side, numbers in (("Training", (1, 2, 3)), ("Validation", (4, 5)), ("Testing", (6, 7, 8))):
        for number in numbers:
            shutil.move(data / f"BraTS2021_{number:05d}", data / side / f"BraTS2021_{number:05d}")
    assert pipeline.run("--mode", "data-only", "split.folders=true") == 0
    split = split_of(pipeline)
    assert split["counts"]["brats"] == {"train": 3, "val": 2, "test": 3}
    assert split["given"]["brats"] == {"by": "folders", "drawn": [], "left_out": {}}


@pytest.mark.parametrize("as_copy", [False, True], ids=["same name", "other name"])
def test_a_patient_in_two_folders_is_refused_or_only_tested(
    pipeline: Pipeline, data: Path, capsys: pytest.CaptureFixture[str], as_copy: bool
) -> None:
    """A second folder of a case, or a copy under another name, is left out of the data but not forgotten."""
    for number in range(1, NUM_PATIENTS + 1):
        side = "test" if number > 6 else "train"
        shutil.move(data / f"BraTS2021_{number:05d}", data / side / f"BraTS2021_{number:05d}")
    tested = data / "test" / "BraTS2021_00007"
    name = "BraTS2021_00070" if as_copy else "BraTS2021_00007"
    for path in tested.iterdir():
        copy = data / "train" / name / path.name.replace("BraTS2021_00007", name)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)

    assert pipeline.run("--mode", "data-only", "split.folders=true") == 1
    assert "BraTS2021_00007 (test and train: BraTS2021_00007)" in capsys.readouterr().err
    assert pipeline.run("--mode", "data-only", "split.folders=true", "split.overlap=exclude") == 0
    split = split_of(pipeline)
    assert split["sources"]["brats"]["test"] == ["BraTS2021_00007", "BraTS2021_00008"]
    assert split["counts"]["brats"] == {"train": 5, "val": 1, "test": 2}


def test_pictures_may_be_named_where_volumes_are_not(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48), np.uint8)
        path = tmp_path / "pictures" / ("yes" if number % 2 else "no") / f"Y{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "mine.csv").write_text("file,subset\nyes/Y1.png,test\nno/Y2.png,test\nY3.png,val\nY4,val\n")
    overrides = tuple(word for word in pipeline.overrides if word != "data.sources.pictures=null")
    both = Pipeline(pipeline.workspace, (*overrides, f"data.sources.pictures.path={tmp_path / 'pictures'}"))

    assert both.run("--mode", "data-only", f"split.file={tmp_path / 'mine.csv'}") == 0

    split = split_of(both)
    assert split["counts"]["kaggle_mri"] == {"train": 8, "val": 2, "test": 2}
    assert split["given"]["brats"] == {"by": "seed"}
    assert "brats: the given split names none of its cases; split.seed divides it" in capsys.readouterr().out


@pytest.mark.real_data
@pytest.mark.skipif(not (REAL_DATA / "kaggle_4class").is_dir(), reason="the shared real data is not here")
def test_copies_across_published_folders_are_found(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training and Testing of a public set have pictures in common."""
    overrides = tuple(word for word in pipeline.overrides if word != "data.sources.pictures=null")
    both = Pipeline(
        pipeline.workspace,
        (*overrides, f"data.sources.pictures.path={REAL_DATA / 'kaggle_4class'}", "split.folders=true"),
    )
    assert both.run("--mode", "data-only") == 1
    err = capsys.readouterr().err
    assert "Testing/meningioma_tumor/image(89).jpg = Training/meningioma_tumor/m1(199).jpg" in err
    assert both.run("--mode", "data-only", "split.overlap=exclude") == 0
    split = split_of(both)
    index: Any = read_json(both.workspace / "data" / "index" / "index.json")
    tested = set(split["sources"]["kaggle_mri"]["test"])
    for case in index["cases"]:
        if case["group"] in tested and case["case"] not in split["given"]["kaggle_mri"]["left_out"]:
            paths = [*case["images"], *case.get("copies", [])]
            assert any(path.startswith("Testing/") for path in paths)
        elif case["source"] == "kaggle_mri":
            assert not any(path.startswith("Testing/") for path in case["images"])


def test_virtual_patients_may_be_named(tmp_path: Path) -> None:
    phantom = Pipeline(
        tmp_path / "workspace",
        (
            *(
                "data.sources.volumes.phantom_patients=6",
                "data.sources.pictures=null",
                "scale.min_patients=1",
            ),
            *("scale.fraction=0.1", "preprocessing.image_size=32", "runtime.num_workers=1"),
        ),
    )
    path = tmp_path / "mine.json"
    path.write_text('{"test": ["Phantom_00002", "Phantom_00005"]}', encoding="utf-8")

    assert phantom.run("--mode", "data-only", f"split.file={path}") == 0

    assert split_of(phantom)["sources"]["phantom"]["test"] == ["Phantom_00002", "Phantom_00005"]
    generated = {folder.name for folder in (phantom.workspace / "data" / "raw" / "phantom").iterdir()}
    assert {"Phantom_00002", "Phantom_00005"} <= generated
    assert len(generated) < 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("split.file=a.csv", "split.folders=true"), "file and folders both give the subsets"),
        (("split.folders=true", "split.folds=3"), "folds tests every patient once"),
    ],
)
def test_what_contradicts_a_given_split_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(["data=brats", *words])


def test_a_file_that_is_not_there_is_named_by_the_plan(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.run("--mode", "data-only", f"split.file={tmp_path / 'none.csv'}") == 2
    assert "none.csv does not exist; correct the path" in capsys.readouterr().err


def test_a_plan_says_what_is_wrong_with_the_file(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("P1,train\nP1,test\n")
    assert pipeline.call("plan", f"split.file={tmp_path / 'mine.csv'}") != 0
    assert "P1 is in both train and test" in capsys.readouterr().err


def test_without_a_given_split_outputs_of_before_stay_valid() -> None:
    for step in (DOWNLOAD, PREPROCESS, SPLIT):
        assert not {*PREDEFINED_KEYS} & {*step.settings(compose([]))}
