import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label
from tests.imaging.brains import brain
from tests.imaging.ellipsoid import read_volume
from tests.inference.pipelines import PLAIN, pipeline
from tests.terminal import Terminal, in_terminal
from tests.test_full_disk import Tmpfs, mounted

from slicewise.cli.main import main
from slicewise.config.cache import ConfigCache
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.files import read_json, write_json
from slicewise.domain.keys import CaseKey
from slicewise.engine.receipt import Identity, Receipt
from slicewise.imaging.io.image2d import read_picture
from slicewise.imaging.volume import picture_volume
from slicewise.inference.calibration import Scaling
from slicewise.inference.operating_points import OperatingConditions, default_operating_points
from slicewise.inference.postprocess import Postprocessing, tumour_probability
from slicewise.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.models.program import export_program
from slicewise.training.state import Progress, save_state

AFFINE = np.array([[0, -2.0, 0, 40], [1.5, 0, 0, -30], [0, 0, 3.0, 10], [0, 0, 0, 1]])
CHECKPOINT = Path("checkpoints/multitask_joint/best_model.pth")
NOT_FOR_A_PICTURE = (
    *("segmentation_models_pytorch", "timm", "torchvision", "torch._dynamo", "sympy", "pytorch_grad_cam"),
    *("sklearn", "pandas", "matplotlib", "monai", "lightning_fabric", "kaggle", "fastapi", "streamlit"),
    *(
        "scipy.ndimage",
        "scipy.special",
        "pydicom",
        "highdicom",
        "nilearn",
        "imagehash",
        "hydra",
        "omegaconf",
        "yaml",
    ),
)
CHOSEN = Postprocessing(Scaling(1.7, 0.3), 0.2, 0.35)


@pytest.fixture(scope="module")
def trained_checkpoint() -> Checkpoint:
    """A small untrained model; its probabilities are about one half."""
    torch.manual_seed(0)
    config = compose(
        [
            "preprocessing.image_size=64",
            "model={encoder:mobilenet_v2,encoder_weights:null,encoder_depth:3,head_hidden:0}",
        ]
    )
    model = MultitaskModel(config.model, config.tasks).eval()
    with torch.no_grad():  # half of the pixels, so that masks are neither empty nor full
        found = model(torch.randn(2, 4, 64, 64), torch.ones(2, 4))["segmentation"]
        model.mask_head[0].bias -= found.median()  # type: ignore[index]
    return Checkpoint(
        model.state_dict(), config.model, config.preprocessing, config.tasks, "joint", {}, "a" * 64,
        "brats", False, "flair",
    )  # fmt: skip


@pytest.fixture
def quick_workspace(trained_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """One whose model is a program: to start it takes few imports."""
    program = export_program(trained_checkpoint.build(), trained_checkpoint.preprocessing.image_size)
    save_checkpoint(tmp_path / "w" / CHECKPOINT, replace(trained_checkpoint, program=program))
    return tmp_path / "w"


def without(checkpoint: Checkpoint, task: str) -> Checkpoint:
    """A checkpoint whose model lacks a task."""
    return replace(checkpoint, tasks=checkpoint.tasks.model_copy(update={task: None}))


@pytest.fixture
def workspace(trained_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "w" / CHECKPOINT, trained_checkpoint)
    return tmp_path / "w"


def head() -> NDArray[np.int16]:
    """A ball of tissue with a bright spot, [40, 48, 12] as the file has it."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (40, 48, 12)), indexing="ij")
    noise = np.random.default_rng(0).standard_normal(x.shape)
    brain = (x**2 + y**2 + z**2 < 0.8) * (400 + 40 * noise)
    return (brain + ((x - 0.3) ** 2 + y**2 + z**2 < 0.06) * 300).astype(np.int16)


def patient(root: Path, name: str = "BraTS20_Training_001", modalities: str = "t1 flair seg") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for modality in modalities.split():
        nib.save(nib.Nifti1Image(head(), AFFINE), folder / f"{name}_{modality}.nii.gz")
    return folder


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((head()[:, :, 6] // 4).clip(0, 255).astype(np.uint8)).save(path)
    return path


def lgg(root: Path, name: str = "TCGA_CS_4941_19960909") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for number in range(1, 4):
        grey = (head()[:, :, 4 + number] // 4).clip(0, 255).astype(np.uint8)
        Image.fromarray(np.stack([grey] * 3, -1)).save(folder / f"{name}_{number}.tif")
    return folder


def predict(workspace: Path, *words: object) -> int:
    return main(["predict", "--workspace", str(workspace), *map(str, words), "runtime.device=cpu"])


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def choose(root: Path, weights: str | None = None, inference: InferenceSettings = PLAIN) -> None:
    weights = weights or load_checkpoint(root / CHECKPOINT).weights_digest
    choice = {"decision": CHOSEN.to_json(), "validation": {"num_patients": 11}, "notes": []}
    made_for = OperatingConditions(weights, inference, "brats", "kaggle").to_json()
    content = {"made_for": made_for, "sources": {"brats": choice}}
    write_json(root / "results" / "multitask_evaluation" / "calibration.json", content)


def test_every_kind_is_examined_on_its_own_grid(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    patient(root), lgg(root), picture(root / "yes" / "Y1.png")
    assert predict(workspace, root) == 0
    folder = workspace / "results" / "predictions"
    found = rows(folder)
    assert {case: row["kind"] for case, row in found.items()} == {
        "BraTS20_Training_001": "volume", "TCGA_CS_4941_19960909": "volume", "yes-Y1": "picture",
    }  # fmt: skip
    volume = found["BraTS20_Training_001"]
    mask = nib.load(folder / volume["mask"])
    assert mask.shape == (40, 48, 12)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, AFFINE)
    values = np.asarray(mask.dataobj)
    assert set(np.unique(values)) == {0, 1}
    assert not values[head() == 0].any(), "the mask lies in the brain of the file's own axes"
    assert float(volume["volume_ml"]) == pytest.approx(values.sum() * 9 / 1000, abs=1e-5)
    assert found["yes-Y1"]["volume_ml"] == found["TCGA_CS_4941_19960909"]["volume_ml"] == ""
    assert np.asarray(Image.open(folder / found["yes-Y1"]["mask"])).shape == (40, 48)
    slices = sorted(path.name for path in (folder / found["TCGA_CS_4941_19960909"]["mask"]).iterdir())
    assert slices == [f"TCGA_CS_4941_19960909_{number}_mask.png" for number in (1, 2, 3)]
    out = capsys.readouterr().out
    assert "3 cases predicted, 0 failed" in out
    assert "% raw" in out, "this model was not evaluated"
    assert "probabilities are raw, not calibrated" in out


def test_the_answer_is_that_of_the_predictor_and_the_mask_beside_is_not_used(
    workspace: Path, trained_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = patient(tmp_path / "in")
    assert predict(workspace, folder, "--out", tmp_path / "out") == 0
    paths = {"t1": folder / f"{folder.name}_t1.nii.gz", "flair": folder / f"{folder.name}_flair.nii.gz"}
    volume = read_volume(paths)  # type: ignore[arg-type]  # both are modalities
    expected = pipeline(trained_checkpoint, inference=compose([]).evaluation.inference).predict(volume)
    (row,) = rows(tmp_path / "out").values()
    assert float(row["tumour_probability"]) == pytest.approx(expected.tumour_probability, abs=1e-5)
    assert expected.mask is not None
    millilitres = np.count_nonzero(expected.mask) * np.prod(volume.spacing) / 1000
    assert float(row["volume_ml"]) == pytest.approx(millilitres, abs=1e-5)
    assert row["modalities"] == "t1 flair"
    (folder / f"{folder.name}_seg.nii.gz").unlink()
    assert predict(workspace, folder, "--out", tmp_path / "again") == 0
    assert rows(tmp_path / "again")[folder.name]["tumour_probability"] == row["tumour_probability"]


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (4, 1), (0, 1), (0, 0)])
def test_the_header_places_the_mask_as_it_places_the_image(
    workspace: Path, tmp_path: Path, sform: int, qform: int
) -> None:
    """Some programs believe the qform, some the sform, and some the codes."""
    path = tmp_path / "P_1_t2.nii.gz"
    image = nib.Nifti1Image(head(), AFFINE)
    image.set_sform(AFFINE if sform else None, sform)
    image.set_qform(AFFINE if qform else None, qform)
    nib.save(image, path)
    assert predict(workspace, path) == 0
    mask = nib.load(workspace / "results" / "predictions" / "P_1_mask.nii.gz")
    for name in ("get_sform", "get_qform"):
        (expected, code), (found, own) = (
            getattr(one.header, name)(coded=True) for one in (nib.load(path), mask)
        )
        assert own == code
        assert (found is None) is (expected is None)
        if expected is not None:
            np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(mask.affine, nib.load(path).affine, atol=1e-5)


def test_volumes_of_another_place_are_told(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = patient(tmp_path / "in"), tmp_path / "out"
    moved = AFFINE.copy()
    moved[2, 3] += 30
    nib.save(nib.Nifti1Image(head(), moved), folder / f"{folder.name}_flair.nii.gz")
    assert predict(workspace, folder, "--out", out) == 0
    (row,) = rows(out).values()
    output = f"{folder.name}_flair.nii.gz: its centre is 30.0 mm from that of {folder.name}_t1.nii.gz"
    assert output in row["note"]
    assert output in capsys.readouterr().out.replace("\n", " ")


def test_what_the_evaluation_chose_decides(
    workspace: Path, trained_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder, out = patient(tmp_path / "in", modalities="flair"), tmp_path / "out"
    choose(workspace)
    assert predict(workspace, folder, picture(tmp_path / "p.png"), "--out", out) == 0
    found = rows(out)
    volume = read_volume({"flair": folder / f"{folder.name}_flair.nii.gz"})
    expected = pipeline(trained_checkpoint, points=default_operating_points(CHOSEN, "by the test")).predict(
        volume
    )
    row = found[folder.name]
    assert float(row["tumour_probability"]) == pytest.approx(expected.tumour_probability, abs=1e-5)
    raw_probability = tumour_probability(expected.class_probability)
    assert expected.tumour_probability != pytest.approx(raw_probability, abs=1e-4)
    assert (row["verdict"], row["calibrated"]) == (expected.verdict, "1")
    assert (row["class_threshold"], row["mask_threshold"]) == ("0.2", "0.35")
    assert row["chosen"] == "chosen on 11 validation patients of brats"
    assert "no validation cases" in found["p"]["chosen"]
    assert (found["p"]["class_threshold"], found["p"]["calibrated"]) == ("0.5", "0")


def test_a_probability_near_the_threshold_is_uncertain_and_said(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = picture(tmp_path / "p.png")
    assert predict(workspace, path) == 0
    (row,) = rows(workspace / "results" / "predictions").values()
    probability = float(row["tumour_probability"])
    assert predict(workspace, path, f"evaluation.class_threshold={probability + 0.01}") == 0
    (row,) = rows(workspace / "results" / "predictions").values()
    assert (row["verdict"], row["predicted_class"]) == ("uncertain", "no_tumour")
    assert float(row["uncertain_low"]) < probability < float(row["uncertain_high"])
    assert "uncertain" in capsys.readouterr().out
    words = (f"evaluation.class_threshold={probability + 0.01}", "evaluation.uncertain_band=0")
    assert predict(workspace, path, *words) == 0
    (row,) = rows(workspace / "results" / "predictions").values()
    assert row["verdict"] == row["predicted_class"] == "no_tumour"
    assert predict(workspace, path, "evaluation.uncertain_band=0.5") == 2


def test_a_volume_has_a_row_for_each_slice_and_a_count_of_lesions(workspace: Path, tmp_path: Path) -> None:
    folder = workspace / "results" / "predictions"
    assert predict(workspace, patient(tmp_path / "in"), picture(tmp_path / "p.png")) == 0
    with (folder / "slices.csv").open(newline="") as stream:
        slices = [*csv.DictReader(stream)]
    assert {row["case"] for row in slices} == {"BraTS20_Training_001"}
    mask = np.asarray(nib.load(folder / "BraTS20_Training_001_mask.nii.gz").dataobj) > 0
    assert [int(row["index"]) for row in slices] == [*range(12)]
    assert [int(row["pixels"]) for row in slices] == mask.sum(axis=(0, 1)).tolist()
    np.testing.assert_allclose([float(row["area_mm2"]) for row in slices], mask.sum(axis=(0, 1)) * 3.0)
    assert [row["probability"] != "" for row in slices] == [row["included"] == "1" for row in slices]
    assert {"0", "1"} == {row["included"] for row in slices}
    row = rows(folder)["BraTS20_Training_001"]
    parts, number = label(mask, np.ones((3, 3, 3)))
    assert int(row["num_lesions"]) == number
    largest = np.bincount(parts[mask]).max() * 9 / 1000
    assert float(row["largest_lesion_ml"]) == pytest.approx(largest, abs=1e-5)
    assert predict(workspace, tmp_path / "p.png") == 0
    assert not (folder / "slices.csv").exists(), "the tables are of the last command"


def test_choices_of_another_network_are_not_used(workspace: Path, tmp_path: Path) -> None:
    choose(workspace, "b" * 64)
    assert predict(workspace, picture(tmp_path / "p.png")) == 0
    (row,) = rows(workspace / "results" / "predictions").values()
    assert "chosen for another model" in row["chosen"]


def test_flips_follow_the_evaluation_unless_they_are_set(workspace: Path, tmp_path: Path) -> None:
    choose(workspace, inference=InferenceSettings(flips=True))
    path, out = patient(tmp_path / "in", modalities="t1"), tmp_path / "out"
    tables = []
    for words in ([], ["evaluation.flips=true"], ["evaluation.flips=false"]):
        assert predict(workspace, path, "--out", out, *words) == 0
        tables.append(read_json(out / "predictions.json"))
    assert [table["flips"] for table in tables] == [True, True, False]
    first, second, third = (table["cases"][0] for table in tables)
    assert first == second
    assert third["tumour_probability"] != first["tumour_probability"]
    assert "evaluation.flips=True" in third["chosen"]


def test_a_wish_that_is_not_what_was_evaluated_leaves_the_rest_to_the_configuration(
    workspace: Path, tmp_path: Path
) -> None:
    choose(workspace, inference=InferenceSettings(flips=True, class_smoothing=0.7))
    path, out = patient(tmp_path / "in", modalities="t1"), tmp_path / "out"
    assert predict(workspace, path, "--out", out, "evaluation.class_smoothing=1.5") == 0
    table = read_json(out / "predictions.json")
    assert (table["flips"], table["class_smoothing"]) == (False, 1.5)
    assert "evaluation.class_smoothing=0.7" in table["cases"][0]["chosen"]


def test_a_case_that_cannot_be_read_is_named_and_the_others_are_done(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = patient(tmp_path / "in", "P_1", "t1"), patient(tmp_path / "in", "P_2", "t1")
    broken = bad / "P_2_t1.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "in" / "x.png").write_bytes(b"no picture")
    assert predict(workspace, tmp_path / "in") == 1
    found = rows(workspace / "results" / "predictions")
    assert {case for case, row in found.items() if not row["error"]} == {good.name}
    assert {case for case, row in found.items() if row["error"]} == {"P_2", "x"}
    assert not found["P_2"]["mask"]
    err = capsys.readouterr().err
    for name in (str(broken), "x.png"):
        assert name in err


@pytest.mark.parametrize("room", [0, 2, 3])
def test_a_full_folder_is_named_and_holds_nothing_half_written(
    workspace: Path, tmp_path: Path, room: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """With room for nothing, for the mask of the volume, and for that and some slices of the next case."""
    root, out = tmp_path / "in", tmp_path / "out"
    patient(root), lgg(root)
    out.mkdir()
    with mounted(out, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        disk = Tmpfs(out)
        disk.fill()
        os.truncate(disk.filler, disk.filler.stat().st_size - room * os.sysconf("SC_PAGE_SIZE"))
        assert predict(workspace, root, "--out", out) == 1
        error = capsys.readouterr().err
        assert f"error: {out}" in error
        assert "cannot be written: the disk is full (0.0 MiB free of 1)" in error
        assert "choose another folder with --out" in error
        left = {path.name for path in out.rglob("*")} - {"filler"}
        assert left == ({"BraTS20_Training_001_mask.nii.gz"} if room else set())
        disk.mend()
        assert predict(workspace, root, "--out", out) == 0
        assert set(rows(out)) == {"BraTS20_Training_001", "TCGA_CS_4941_19960909"}


@pytest.mark.parametrize(("name", "code"), [("typo.nii.gz", 2), ("scan.nii.gz", 2), ("broken_t1.nii.gz", 1)])
def test_where_no_case_is_examined_the_tables_stay(
    name: str, code: int, workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that does not exist, one that does not say its modality, and one that cannot be read."""
    good = patient(tmp_path / "in", "P_1", "t1")
    for other in ("scan.nii.gz", "broken_t1.nii.gz"):
        (tmp_path / other).write_bytes(b"nothing")
    assert predict(workspace, good) == 0
    table = workspace / "results" / "predictions" / "predictions.csv"
    before = table.read_bytes()
    assert predict(workspace, tmp_path / name) == code
    assert name in capsys.readouterr().err
    assert table.read_bytes() == before


def test_the_json_says_who_answered_and_warns_of_generated_patients(
    trained_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.pth"
    save_checkpoint(path, replace(trained_checkpoint, synthetic=True))
    assert predict(tmp_path, picture(tmp_path / "p.png"), "--checkpoint", path) == 0
    found = read_json(tmp_path / "results" / "predictions" / "predictions.json")
    assert "generated patients only" in found["warning"]
    assert "generated patients only" in capsys.readouterr().out
    assert found["checkpoints"] == [
        {"path": str(path), "fingerprint": "a" * 64, "stage": "joint", "data": "brats"}
    ]
    assert found["cases"][0]["synthetic"] is True
    assert found["operating_points"]["picture"]["decision"]["class_threshold"] == 0.5


def test_an_absent_head_gives_no_verdict(
    trained_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.pth"
    save_checkpoint(path, without(trained_checkpoint, "classification"))
    assert predict(tmp_path, patient(tmp_path / "in"), "--checkpoint", path) == 0
    folder = tmp_path / "results" / "predictions"
    (row,) = rows(folder).values()
    assert row["verdict"] == row["tumour_probability"] == row["class_threshold"] == ""
    assert row["note"] == ""
    assert (folder / row["mask"]).is_file()
    assert float(row["volume_ml"]) > 0
    found = read_json(folder / "predictions.json")
    assert found["tasks"] == ["segmentation"]
    assert found["cases"][0]["verdict"] is None
    output = capsys.readouterr().out
    assert "verdict" not in output
    assert "%" not in output.splitlines()[0]


def test_absent_masks_are_not_written(
    trained_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.pth"
    save_checkpoint(path, without(trained_checkpoint, "segmentation"))
    assert predict(tmp_path, patient(tmp_path / "in"), "--checkpoint", path) == 0
    folder = tmp_path / "results" / "predictions"
    assert {path.name for path in folder.iterdir()} == {"predictions.csv", "predictions.json", "slices.csv"}
    (row,) = rows(folder).values()
    assert row["mask"] == row["volume_ml"] == row["mask_threshold"] == ""
    assert row["predicted_class"] in ("tumour", "no_tumour")
    assert "no mask" in capsys.readouterr().out


def test_a_mask_of_slices_is_replaced_as_a_whole(workspace: Path, tmp_path: Path) -> None:
    folder, out = lgg(tmp_path / "in"), tmp_path / "out"
    for _ in range(2):
        (out / f"{folder.name}_mask").mkdir(parents=True, exist_ok=True)
        (out / f"{folder.name}_mask" / "old.png").touch()
        assert predict(workspace, folder, "--out", out) == 0
        assert len(list((out / f"{folder.name}_mask").iterdir())) == 3
    assert {path.name for path in out.iterdir()} == {
        f"{folder.name}_mask", f"{folder.name}_overlay.png",
                "predictions.csv", "predictions.json", "slices.csv",
    }  # fmt: skip


def test_overlays_show_the_mask_and_maps_hold_its_probabilities(workspace: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    patient(root), lgg(root), picture(root / "yes" / "Y1.png")
    assert predict(workspace, root, "--out", out, "--probability-maps", "evaluation.mask_threshold=0.4") == 0
    found = rows(out)
    volume, slices, single = (
        found[name] for name in ("BraTS20_Training_001", "TCGA_CS_4941_19960909", "yes-Y1")
    )
    for row in found.values():
        drawn = np.asarray(Image.open(out / row["overlay"])).astype(int)
        assert (np.ptp(drawn, axis=-1) > 50).any(), "the mask has a colour"
    chances = nib.load(out / volume["probability_maps"])
    np.testing.assert_allclose(chances.affine, AFFINE)
    reached, mask = chances.get_fdata() >= 0.4, np.asarray(nib.load(out / volume["mask"]).dataobj) > 0
    assert mask.any()
    np.testing.assert_array_equal(reached, mask)
    for row, name in ((single, ""), (slices, "TCGA_CS_4941_19960909_2_{}.png")):
        values, labels = (
            np.asarray(Image.open(out / row[column] / name.format(word) if name else out / row[column]))
            for column, word in (("probability_maps", "probability"), ("mask", "mask"))
        )
        assert values.dtype == np.uint16
        np.testing.assert_array_equal(values / 65535 >= 0.4, labels == 255)


def test_json_alone_is_on_standard_output(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(workspace, picture(tmp_path / "Y1.png"), "--out", tmp_path / "out", "--json", "--tta") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == read_json(tmp_path / "out" / "predictions.json")
    assert json.loads(printed.out)["flips"] is True
    assert "1 case predicted" in printed.err


def test_a_short_option_and_its_key_are_not_both_taken(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [picture(tmp_path / "Y1.png"), "--batch-size", "2", "evaluation.batch_size=3"]
    assert predict(workspace, *words) == 2
    assert "--batch-size and evaluation.batch_size=3 set the same" in capsys.readouterr().err


def test_pictures_of_masks_can_be_left_out(workspace: Path, tmp_path: Path) -> None:
    assert predict(workspace, picture(tmp_path / "Y1.png"), "--out", tmp_path / "out", "--no-overlay") == 0
    (row,) = rows(tmp_path / "out").values()
    assert row["overlay"] == row["probability_maps"] == ""
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"Y1_mask.png", "predictions.csv", "predictions.json"}


def lay_folds(
    root: Path, trained_checkpoint: Checkpoint, folds: int, settings: Sequence[dict[str, Any]] | None = None
) -> list[Checkpoint]:
    """Write the outputs of a cross-validation that prediction reads."""
    checkpoints = []
    for fold in range(1, folds + 1):
        home = root / "folds" / str(fold)
        noise = torch.Generator().manual_seed(fold)
        weights = {
            name: value + 0.05 * torch.randn(value.shape, generator=noise) if value.ndim == 4 else value
            for name, value in trained_checkpoint.weights.items()
        }
        checkpoints.append(replace(trained_checkpoint, weights=weights, fingerprint=f"{fold}" * 64))
        save_checkpoint(home / CHECKPOINT, checkpoints[-1])
        split = Identity(f"fold{fold}.split", 1, {"split.folds": folds}, {}, {})
        made = {} if settings is None else settings[fold - 1]
        trained = Identity(f"fold{fold}.train.joint", 1, made, {f"fold{fold}.split": split.fingerprint}, {})
        (home / "data" / "split").mkdir(parents=True)
        Receipt(split, {}, {}, {}, "p").write(home / "data" / "split")
        Receipt(trained, {}, {}, {}, "p").write((home / CHECKPOINT).parent)
    return checkpoints


def test_an_ensemble_is_the_mean_of_all_folds(trained_checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoints = lay_folds(tmp_path / "w", trained_checkpoint, 3)
    (tmp_path / "w" / "folds" / "4").mkdir()  # of an earlier cross-validation with more folds
    path = picture(tmp_path / "p.png")
    assert predict(tmp_path / "w", path, "--ensemble") == 0
    found = read_json(tmp_path / "w" / "results" / "predictions" / "predictions.json")
    seen = picture_volume(CaseKey("s", "p", "p"), read_picture(path).pixels, trained_checkpoint.slot)
    together = pipeline(*checkpoints, inference=compose([]).evaluation.inference)
    expected = together.predict(seen).tumour_probability
    assert found["cases"][0]["tumour_probability"] == pytest.approx(expected, abs=1e-6)
    assert found["fingerprint"] == together.fingerprint
    assert [one["fingerprint"][0] for one in found["checkpoints"]] == ["1", "2", "3"]
    assert "none were chosen for the ensemble" in found["cases"][0]["chosen"]


def test_networks_of_several_runs_do_not_answer_together(
    trained_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a cross-validation with other settings that was stopped within its second fold."""
    old, new = {"training.ema_decay": 0.5}, {"training.ema_decay": 0.9}
    lay_folds(tmp_path / "w", trained_checkpoint, 3, [new, old, old])
    assert predict(tmp_path / "w", picture(tmp_path / "p.png"), "--ensemble") == 2
    assert "fold 2, 3 of 3 was trained with other settings than fold 1" in capsys.readouterr().err


def lose(root: Path) -> None:
    (root / "folds" / "2" / CHECKPOINT).unlink()


def outdate(root: Path) -> None:
    """Leave fold 2 trained, but with an earlier split."""
    split = root / "folds" / "2" / "data" / "split"
    receipt = Receipt.read(split)
    assert receipt is not None
    replace(receipt, identity=replace(receipt.identity, version=9)).write(split)


@pytest.mark.parametrize("spoil", [lose, outdate])
def test_a_fold_that_is_not_trained_is_named(
    trained_checkpoint: Checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
) -> None:
    lay_folds(tmp_path, trained_checkpoint, 2)
    spoil(tmp_path)
    assert predict(tmp_path, picture(tmp_path / "p.png"), "--ensemble") == 2
    assert "fold 2 of 2 is not trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p.png"], "slicewise run --until evaluate"),
        (["p.png", "--ensemble"], "slicewise run --folds 5"),
        (["p.png", "--checkpoint", "none.pth"], "none.pth does not exist"),
        (["evaluation.flips=true"], "no PATH is given"),
        (["p.png", "evaluation.flip=true"], "did you mean evaluation.flips?"),
        (["p.png", "--out", "p.png"], "p.png is not a folder"),
    ],
)
def test_what_cannot_be_obeyed_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "p.png")
    assert predict(tmp_path, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_folder_of_masks_alone_leaves_nothing_to_examine(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder: Any = patient(tmp_path / "in", "P", "seg")
    assert predict(workspace, folder) == 2
    assert "no case to predict on" in capsys.readouterr().err


def test_a_picture_is_examined_without_what_its_network_does_not_need(
    quick_workspace: Path, tmp_path: Path
) -> None:
    """A cold start is mostly imports; those of architectures, explanations and figures are left out."""
    words = ["predict", str(picture(tmp_path / "p.png")), "--workspace", str(quick_workspace)]
    (quick_workspace / ".slicewise").mkdir()
    ConfigCache(quick_workspace / ".slicewise" / "configs").compose([])  # as an earlier command did
    code = (
        "import sys\n"
        "from slicewise.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        f"print([name for name in {NOT_FOR_A_PICTURE!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_configuration_is_composed_once(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[Sequence[str]] = []

    def counted(words: Sequence[str]) -> Config:
        composed.append(words)
        return compose(words)

    monkeypatch.setattr("slicewise.config.compose.compose", counted)

    assert predict(workspace, picture(tmp_path / "p.png")) == 0

    assert len(composed) == 1


def test_what_is_no_checkpoint_is_named_for_what_it_is(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, best = picture(tmp_path / "p.png"), workspace / CHECKPOINT
    state = best.with_name("last.pth")
    save_state(state, "a" * 64, Progress(), {})
    foreign = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, foreign)
    for name in ("calibration.json", "net.onnx", "scan.nii.gz"):
        (tmp_path / name).write_text("{}")
    (best.parent / "history.csv").write_text("epoch")
    for path, expected in (
        (state, f"is the training state from which a stopped stage resumes, not a checkpoint; name {best}"),
        (best.parent, f"is a folder, not a checkpoint; name {best}"),
        (workspace, f"is a folder, not a checkpoint; name {best}"),
        (best.parent / "history.csv", f"is a .csv file, not a checkpoint; name {best}"),
        (tmp_path / "calibration.json", "is a .json file, not a checkpoint; name a best_model.pth"),
        (tmp_path / "net.onnx", "is a .onnx file, not a checkpoint"),
        (tmp_path / "scan.nii.gz", "is a .gz file, not a checkpoint"),
        (foreign, "lacks the fields of a SliceWise checkpoint"),
        (tmp_path / "none.pth", "does not exist"),
    ):
        assert predict(workspace, scan, "--checkpoint", path) in (1, 2)
        output = capsys.readouterr().err
        assert f"{path} " in output
        assert expected in output, output
        assert "not written by SliceWise" not in output


PYTHON = (sys.executable, "-m", "slicewise")


def slow_words(workspace: Path, folder: Path, out: Path) -> tuple[str, ...]:
    return ("predict", str(folder), "--workspace", str(workspace), "--out", str(out), "runtime.device=cpu")


def test_the_tables_are_written_though_nobody_reads_the_lines(quick_workspace: Path, tmp_path: Path) -> None:
    names = ("größe", "数据", "three")
    for name in names:
        picture(tmp_path / "in" / f"{name}.png")
    reader, writer = os.pipe()
    os.close(reader)
    words = slow_words(quick_workspace, tmp_path / "in", tmp_path / "größe")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([*PYTHON, *words], check=False, stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    assert done.returncode == 0
    assert len(rows(tmp_path / "größe")) == len(names)
    assert {Path(row["path"]).stem for row in rows(tmp_path / "größe").values()} == {*names}


def test_in_a_terminal_each_case_has_a_line_of_its_own(quick_workspace: Path, tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "in" / f"p{number}.png")
    (tmp_path / "in" / "damaged.png").write_bytes(b"no picture")
    words = slow_words(quick_workspace, tmp_path / "in", tmp_path / "out")
    code, sent = in_terminal([*PYTHON, *words])
    assert code == 1
    assert "predict: " in sent, "there was a bar"
    terminal = Terminal()
    terminal.feed(sent)
    cases = [line for line in terminal.shown if "_mask.png" in line]
    assert [line.split()[0].rpartition("-")[2] for line in cases] == ["p0", "p1", "p2", "p3"]
    assert sum("damaged" in line for line in terminal.shown) == 1
    assert not [line for line in terminal.shown if "predict:" in line]


def test_what_is_passed_over_in_a_folder_is_listed(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "in" / "p.png")
    (tmp_path / "in" / "p.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert predict(workspace, tmp_path / "in") == 0
    output = capsys.readouterr().out
    assert "a HEIC picture or a film; save it as PNG or TIFF" in output
    assert str(tmp_path / "in" / "p.heic") in output


def test_the_modality_is_a_channel_of_the_model(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = picture(tmp_path / "a.png")
    assert predict(workspace, path, "--modality", "FLAIR") == 2
    assert "did you mean flair? the model has t1, t1ce, t2, flair" in capsys.readouterr().err


def test_a_volume_fills_a_channel_that_is_no_mri_sequence(
    trained_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    preprocessing = trained_checkpoint.preprocessing.model_copy(update={"channels": ("ct",)})
    weights = MultitaskModel(trained_checkpoint.model, trained_checkpoint.tasks, 1).state_dict()
    one_channel = replace(trained_checkpoint, weights=weights, preprocessing=preprocessing, slot="ct")
    save_checkpoint(tmp_path / "w" / CHECKPOINT, one_channel)
    nib.save(nib.Nifti1Image(head(), AFFINE), tmp_path / "scan.nii.gz")
    assert predict(tmp_path / "w", tmp_path / "scan.nii.gz", "--modality", "ct") == 0
    (row,) = read_json(tmp_path / "w" / "results" / "predictions" / "predictions.json")["cases"]
    assert (row["kind"], row["modalities"]) == ("volume", "ct")


def test_strict_refuses_a_page_and_predicts_the_rest(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, folder = np.random.default_rng(0), workspace / "results" / "predictions"
    (tmp_path / "in").mkdir()
    Image.fromarray((brain() / 2).astype(np.uint8)).save(tmp_path / "in" / "brain.png")
    Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "in" / "page.png")
    assert predict(workspace, tmp_path / "in") == 0
    said = capsys.readouterr().out
    assert said.index("page: this does not look like MRI of a brain") < said.index("page  ")
    assert "does not look like" in rows(folder)["page"]["doubts"]
    assert predict(workspace, tmp_path / "in", "--strict") == 1
    found = rows(folder)
    assert "does not look like MRI of a brain" in found["page"]["error"]
    assert found["brain"]["error"] == found["brain"]["doubts"] == ""


def test_the_spread_of_augmentations_is_written_beside_the_mask(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = patient(tmp_path / "in", modalities="flair")
    assert predict(workspace, folder, picture(tmp_path / "p.png"), "--uncertainty") == 0
    out = workspace / "results" / "predictions"
    found = rows(out)
    volume = found["BraTS20_Training_001"]
    assert volume["uncertainty"] == "BraTS20_Training_001_uncertainty.nii.gz"
    assert nib.load(out / volume["uncertainty"]).shape == (40, 48, 12)
    assert float(volume["passes"]) == 4
    assert float(volume["volume_deviation_ml"]) >= 0
    assert found["p"]["volume_deviation_ml"] == ""
    assert np.asarray(Image.open(out / found["p"]["uncertainty"])).dtype.kind in "iu"
    assert " ± " in capsys.readouterr().out


def test_a_prediction_is_compared_with_the_truth(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = patient(tmp_path / "in", modalities="flair")
    truth = tmp_path / "truth" / f"{folder.name}_seg.nii.gz"
    truth.parent.mkdir()
    reference = (head() > 600).astype(np.uint8)
    nib.save(nib.Nifti1Image(reference, AFFINE), truth)
    out = workspace / "results" / "predictions"
    for given in (truth, truth.parent):
        assert predict(workspace, folder, "--truth", given) == 0
        (row,) = rows(out).values()
        mask = np.asarray(nib.load(out / row["mask"]).dataobj)
        common, total = np.count_nonzero(mask & reference), mask.sum() + reference.sum()
        assert float(row["dice"]) == pytest.approx(2 * common / total, abs=1e-6)
        assert float(row["iou"]) == pytest.approx(common / (total - common), abs=1e-6)
        assert "means over 1 case" in capsys.readouterr().out
    overlay = np.asarray(Image.open(out / row["overlay"]))
    assert (overlay == (86, 180, 233)).all(axis=-1).any(), "the outline of the truth is blue"


def test_pictures_and_slices_find_their_truth_by_name(workspace: Path, tmp_path: Path) -> None:
    folder, truth = lgg(tmp_path / "in"), tmp_path / "masks"
    truth.mkdir()
    for path in (*folder.iterdir(), picture(tmp_path / "in" / "p.png")):
        with Image.open(path) as image:
            mask = np.zeros(image.size[::-1], np.uint8)
        mask[10:30, 10:30] = 255
        Image.fromarray(mask).save(truth / f"{path.stem}_mask.png")
    picture(tmp_path / "in" / "q.png")
    assert predict(workspace, tmp_path / "in", "--truth", truth) == 0
    found = rows(workspace / "results" / "predictions")
    assert found["q"]["dice"] == ""
    mask = np.asarray(Image.open(workspace / "results" / "predictions" / found["p"]["mask"])) > 0
    inside = mask[10:30, 10:30].sum()
    assert float(found["p"]["dice"]) == pytest.approx(2 * inside / (mask.sum() + 400), abs=1e-6)
    assert 0 < float(found[folder.name]["dice"]) < 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "does not exist"),
        ("empty", "holds no mask of any case"),
        ("one.png", "is one mask, and there are"),
    ],
)
def test_a_truth_that_fits_no_case_is_an_error(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    paths = [picture(tmp_path / f"{stem}.png") for stem in ("one", "two", "three")]
    assert predict(workspace, *paths[1:], "--truth", tmp_path / name) == 2
    assert message in capsys.readouterr().err
