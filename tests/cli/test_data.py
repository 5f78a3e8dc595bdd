"""`slicewise data generate shapes`, and a run on what it wrote."""

from pathlib import Path

import pytest
from tests.conftest import TINY, Pipeline

from slicewise.cli.main import main
from slicewise.core.files import read_json


def test_a_run_honours_the_folders_of_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--train", "4", "--val", "2", "--test", "3", "--size", "64", "--classes", "3"]
    assert main(["data", "generate", "shapes", str(tmp_path / "set"), *words]) == 0
    output = capsys.readouterr().out
    assert "4 + 2 + 3 pictures with masks" in output
    assert "circle, ellipse, rectangle" in output
    overrides = (
        *[word for word in TINY if not word.startswith("data.")],
        *("data=image_masks", f"data.path={tmp_path / 'set'}"),
    )
    pipeline = Pipeline(tmp_path / "work", overrides)
    assert pipeline.run("--mode", "data-only") == 0
    split = read_json(tmp_path / "work/data/split/split.json")
    assert split["given"] == {"image_masks": {"by": "folders", "drawn": [], "left_out": {}}}
    subsets = split["sources"]["image_masks"]
    assert [len(subsets[subset]) for subset in ("train", "val", "test")] == [4, 2, 3]
    entries = read_json(tmp_path / "work/data/processed/manifest.json")["entries"]
    tested = [entry["case"] for entry in entries if entry["group"] in subsets["test"]]
    assert sorted(tested) == ["test-test_0001", "test-test_0002", "test-test_0003"]

    by_seed = pipeline.with_overrides("split.folders=false")
    assert by_seed.run("--mode", "data-only") == 0
    assert "given" not in read_json(tmp_path / "work/data/split/split.json")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--classes", "5"], "--classes 5: "),
        (["--val", "1"], "--val 1: "),
        (["--size", "x"], "invalid int value"),
    ],
)
def test_bad_numbers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], fault: str
) -> None:
    try:
        code = main(["data", "generate", "shapes", str(tmp_path / "set"), *words])
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    assert fault in capsys.readouterr().err
