"""`slicewise test`: a trained model on labelled data that is not its own."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import ROOT, Pipeline

from slicewise.cli.main import main
from slicewise.core.files import read_json
from slicewise.domain.tables import PatientRow, read_rows
from slicewise.models.checkpoint import load_checkpoint, save_checkpoint

QUICK = (
    *("evaluation.gradcam_pictures=2", "evaluation.sample_predictions=2", "evaluation.bootstrap_samples=200"),
    "runtime.num_threads=1",
)
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def checkpoint(trained: Pipeline) -> Path:
    return trained.workspace / "checkpoints" / "multitask_joint" / "best_model.pth"


@pytest.fixture
def run(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(ROOT / "configs"))

    def call(*words: str, model: Path = checkpoint) -> tuple[int, str]:
        code = main(["test", str(model), "--workspace", str(tmp_path), "--no-input", *QUICK, *words])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def folder(trained: Pipeline, tmp_path: Path) -> Callable[[str], Path]:
    """Copy the generated patients of a subset of the training into a folder."""
    subsets = read_json(trained.workspace / "data" / "split" / "split.json")["sources"]["phantom"]

    def copy(*names: str) -> Path:
        for name in names:
            for patient in subsets[name]:
                source = trained.workspace / "data" / "raw" / "phantom" / patient
                shutil.copytree(source, tmp_path / "theirs" / patient)
        return tmp_path / "theirs"

    return copy


def rename(patient: Path, name: str) -> None:
    """Give a patient's folder and files another name."""
    for path in sorted(patient.iterdir()):
        path.rename(path.with_name(path.name.replace(patient.name, name)))
    patient.rename(patient.with_name(name))


def test_the_model_is_evaluated_as_at_home(run: Run, folder: Callable[..., Path], trained: Pipeline) -> None:
    data = folder("test")
    for place, path in enumerate(sorted(data.iterdir())):
        for file in path.glob("*_t2.nii.gz"):
            if place == 0:
                file.unlink()
    code, out = run("data=brats", f"data.path={data}")
    assert code == 0, out
    results = data.parent / "external" / "theirs" / "results"
    ours = {row.patient: row for row in read_rows(results / "multitask_evaluation/patients.csv", PatientRow)}
    home = trained.workspace / "results" / "multitask_evaluation" / "patients.csv"
    theirs = {row.patient: row for row in read_rows(home, PatientRow) if row.source == "phantom"}
    assert ours.keys() == theirs.keys()
    _without_t2, *others = sorted(ours)
    assert all(ours[name].scores == theirs[name].scores for name in others)
    assert all(ours[name].tumour_probability == theirs[name].tumour_probability for name in others)

    rows = read_json(results / "multitask_evaluation" / "differences.json")["rows"]
    (modality,) = (row for row in rows if row["what"] == "cases with t2")
    assert modality["notable"]
    assert modality["training"] == "100%"
    assert f"unlike the training: volumes, cases with t2: {modality['tested']}, training 100%" in out
    page = (results / "report" / "report.txt").read_text(encoding="utf-8")
    assert "Differences from the training data" in page
    assert "On test patients of brats, which the model was not trained on:" in out
    assert not (results / "report" / "model_card.md").exists()


def test_patients_of_the_training_are_refused_by_name_and_by_content(
    run: Run, folder: Callable[..., Path]
) -> None:
    data = folder("train", "test")
    known = sorted(data.iterdir())
    rename(known[0], "Other_1")
    code, out = run("data=brats", f"data.path={data}", "--dry-run")
    assert code == 0
    assert not (data.parent / "external").exists()
    code, out = run("data=brats", f"data.path={data}")
    assert code != 0
    assert "the model was trained on" in out
    assert "split.overlap=exclude" in out
    left = {"brats/Other_1", *(f"brats/{path.name}" for path in known[1:])}
    code, out = run("data=brats", f"data.path={data}", "split.overlap=exclude")
    assert code == 0, out
    folder_of_test = data.parent / "external" / "theirs" / "data" / "split" / "tested.json"
    content = json.loads(folder_of_test.read_text(encoding="utf-8"))
    assert {*content["left_out"]} < left
    assert all(
        name not in str(content["tested"]) for name in ("Other_1",) if f"brats/{name}" in content["left_out"]
    )
    assert {*content["left_out"].values()} == {"the same images"}


def test_a_checkpoint_that_remembers_nobody_says_so(
    run: Run, folder: Callable[..., Path], checkpoint: Path, tmp_path: Path
) -> None:
    old = tmp_path / "best_model.pth"
    save_checkpoint(old, replace(load_checkpoint(checkpoint), reference=None))
    code, out = run("data=brats", f"data.path={folder('test')}", model=old)
    assert code == 0, out
    assert "nobody could be compared with them" in out
    page = (tmp_path / "external/theirs/results/report/report.txt").read_text(encoding="utf-8")
    assert "does not remember its training patients" in " ".join(page.split())


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["data.path=x"], "no data=NAME is given"),
        (["data=brats", "preprocessing.image_size=64"], "preprocessing.image_size is decided by the model"),
        (["data=brats", "recipes=binary"], "recipes is decided by the model"),
        (["data=brats", "split.file=x.csv"], "split.file is decided by the model"),
        (["data=image_masks", "data.path=x"], "has pictures in colour or grey"),
        (["data=brats", "data.path=nowhere"], "does not exist"),
    ],
)
def test_a_wrong_word_is_explained(run: Run, words: list[str], fault: str) -> None:
    code, out = run(*words)
    assert code == 2
    assert fault in out


def test_cases_without_masks_are_refused(run: Run, folder: Callable[..., Path]) -> None:
    data = folder("test")
    for path in data.glob("*/*_seg.nii.gz"):
        path.unlink()
    code, out = run("data=brats", f"data.path={data}")
    assert code != 0
    assert "mask" in out
