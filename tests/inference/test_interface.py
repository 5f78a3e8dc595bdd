"""The documented Python interface, and that every way to a prediction gives the same bits."""

import base64
import gzip
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.conftest import ROOT
from tests.inference.pipelines import pipeline
from tests.test_bad_input import write_patient

from slicewise.cli.main import main
from slicewise.config.compose import compose
from slicewise.core.errors import ConfigError, DataError
from slicewise.core.files import read_json, write_json
from slicewise.data.store import SliceStore
from slicewise.evaluation.evaluate import score_case
from slicewise.imaging.slicing import extract_slices
from slicewise.inference.calibration import Scaling
from slicewise.inference.operating_points import OperatingConditions
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.postprocess import Postprocessing
from slicewise.models.checkpoint import Checkpoint, save_checkpoint
from slicewise.serving.api.app import create_app
from slicewise.workflow.evaluation import case_output

CHECKPOINT = Path("checkpoints/multitask_joint/best_model.pth")
PLACES = {
    "README.md": ["BraTS20_Training_001/a_t1.nii.gz"],
    "docs/howto/python.md": ["BraTS20_Training_001/a_t1.nii.gz", "patients/b/b_flair.nii.gz"],
}


@pytest.mark.parametrize("page", PLACES)
def test_the_examples_of_the_documentation_run(
    page: str, checkpoint: Checkpoint, volume_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / CHECKPOINT, checkpoint)
    for place in PLACES[page]:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(volume_path.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(ROOT / "configs"))
    names: dict[str, Any] = {"array": np.random.default_rng(0).integers(1, 99, (2, 3, 64, 64))}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        if "Experiment(" not in block:  # the notebook trains one, see tests/notebooks
            exec(block, names)
    assert names["prediction"].verdict in ("tumour", "uncertain", "no_tumour")


def lgg(folder: Path) -> Path:
    """A case of kaggle_3m of three slices."""
    name = "TCGA_CS_4941_19960909"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:90, :80]
    inside = np.hypot((rows - 45) / 35, (columns - 40) / 28) < 1
    (folder / name).mkdir(parents=True)
    for number in range(1, 4):
        pixels = (inside[..., None] * rng.integers(60, 200, (90, 80, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{name}_{number}.tif")
    return folder / name


def inflated(content: bytes) -> bytes:
    """Return the content of a file: igzip now and then encodes the same data in other bytes."""
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def files(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def evaluated(checkpoint: Checkpoint, path: Path, root: Path) -> Postprocessing:
    """Make a workspace whose model was evaluated; return what it chose on its validation patients.

    The model is random: thresholds near its probabilities leave masks that are neither empty nor full.
    """
    plain = pipeline(checkpoint).predict(path)
    inside = plain.mask_probability[plain.mask_probability > 0]
    threshold = float(np.quantile(inside, 0.7))
    chosen = Postprocessing(Scaling(1.7, 0.3), 0.1, threshold, 5, component_share=0.1, gate=True)
    save_checkpoint(root / CHECKPOINT, checkpoint)
    choice = {"decision": chosen.to_json(), "validation": {"num_patients": 9}, "notes": []}
    inference = compose([]).evaluation.inference
    made_for = OperatingConditions(checkpoint.weights_digest, inference, "brats", "kaggle").to_json()
    content = {"made_for": made_for, "sources": {"brats": choice, "kaggle": choice}}
    write_json(root / "results/multitask_evaluation/calibration.json", content)
    return chosen


@pytest.mark.parametrize("kind", ["volume", "kaggle_3m", "picture"])
def test_evaluation_command_line_and_api_give_the_same_bits(
    kind: str, checkpoint: Checkpoint, picture_path: Path, tmp_path: Path
) -> None:
    path = picture_path
    if kind == "volume":
        path = write_patient(tmp_path / "in", 1)
    elif kind == "kaggle_3m":
        path = lgg(tmp_path / "in")
    root = tmp_path / "workspace"
    chosen = evaluated(checkpoint, path, root)
    pipe = Pipeline.load(root / CHECKPOINT, device="cpu")
    prediction = pipe.predict(path)
    assert prediction.point.postprocessing == chosen
    assert prediction.mask is not None
    assert prediction.mask.any()
    # The command line: its table, and the mask on the grid of the file.
    out = tmp_path / "out"
    words = ["predict", str(path), "--workspace", str(root), "--out", str(out)]
    assert main([*words, "runtime.device=cpu", "runtime.num_threads=1"]) == 0
    (row,) = read_json(out / "predictions.json")["cases"]
    mask = prediction.save_mask(tmp_path / "own")
    assert row == prediction.to_row(mask=mask, overlay=f"{prediction.case}_overlay.png").to_json()
    for saved, own in zip(files(out / row["mask"]), files(tmp_path / "own" / row["mask"]), strict=True):
        assert inflated(saved.read_bytes()) == inflated(own.read_bytes())
    # The evaluation: stored slices beside the reference, with the same thresholds.
    (case,), _ = pipe.find([path])
    masks = tuple(path.glob("*_seg.nii.gz")) if kind == "volume" else ()
    volume = replace(case, masks=masks).read()
    if not masks:
        volume = replace(volume, label=1)
    store = SliceStore(tmp_path / "store")
    store.write("a/a-0", extract_slices(volume, pipe.checkpoints[0].preprocessing), "a")
    stored = store.open("a/a-0")
    output = case_output(stored, pipe.predict(stored), pipe.tasks)
    scored = score_case(output, compose([]).evaluation, chosen, surfaces=False)
    assert scored.tumour_probability == prediction.tumour_probability
    assert scored.called == (prediction.verdict == "tumour")
    assert prediction.slice_mask is not None
    reported = np.unpackbits(
        scored.packed_masks[stored.included], axis=2, count=prediction.slice_mask[0].size
    )
    np.testing.assert_array_equal(reported.reshape(prediction.slice_mask.shape), prediction.slice_mask)
    # The API: it takes a volume or a picture; of kaggle_3m, one slice.
    app = create_app(pipe, compose([]).serving, num_threads=1, cases_dir=tmp_path)
    client = TestClient(app, base_url="http://127.0.0.1")
    if kind == "kaggle_3m":
        path = case.images[1]
        prediction = pipe.predict(path)
        case = replace(case, images=(path,))
    fields = case.modalities if kind == "volume" else ["file"]
    uploads = {
        field: (image.name, image.read_bytes()) for field, image in zip(fields, case.images, strict=True)
    }
    answer = client.post("/predict", files=uploads).json()
    assert answer["tumour_probability"] == prediction.tumour_probability
    assert (answer["label"], answer["origin"]) == (prediction.verdict, prediction.point.origin)
    if kind == "volume":
        assert answer["tumour_ml"] == prediction.volume_ml
        received = client.get(answer["mask_url"]).content
        assert inflated(received) == inflated((out / row["mask"]).read_bytes())
    else:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask_png"]))))
        assert prediction.mask is not None
        np.testing.assert_array_equal(pixels > 0, prediction.mask[0])


def test_an_array_is_predicted_as_its_file(checkpoint: Checkpoint, volume_path: Path, tmp_path: Path) -> None:
    pipe = pipeline(checkpoint)
    of_file = pipe.predict(volume_path, channels="flair")
    (case,), _ = pipe.find([volume_path], "flair")
    volume = case.read()
    of_array = pipe.predict(volume.images[3], channels="flair", spacing=volume.spacing)
    assert of_array.tumour_probability == of_file.tumour_probability
    assert of_array.volume_ml == pytest.approx(of_file.volume_ml)
    np.testing.assert_array_equal(of_array.mask, of_file.mask)
    name = of_array.save_mask(tmp_path)
    assert name == "array_mask.nii.gz"
    assert nib.load(tmp_path / name).header.get_zooms() == pytest.approx(volume.spacing[::-1])
    without_sizes = pipe.predict(volume.images[3], channels=["flair"])
    assert (without_sizes.volume_ml, without_sizes.save_mask(tmp_path)) == (None, "array_mask")
    assert pipe.predict(volume.images[3, 6]).save_mask(tmp_path) == "array_mask.png"


ONES = np.ones((3, 40, 40))


@pytest.mark.parametrize(
    ("array", "arguments", "said"),
    [
        (np.ones(40), {}, r"shape \(40,\); expected \[row, col\]"),
        (np.ones((0, 4, 4)), {"channels": "t1"}, "shape"),
        (ONES.astype(complex), {"channels": "t1"}, "type complex128"),
        (ONES.astype(str), {"channels": "t1"}, "expected integers or floating-point"),
        (np.where(np.arange(40) == 3, np.nan, ONES), {"channels": "t1"}, "NaN or infinity in 120 places"),
        (ONES, {}, "channels=None for an array of 1 channel"),
        (ONES, {"channels": "t7"}, "t1, t1ce, t2, flair"),
        (ONES[None].repeat(2, 0), {"channels": ["t1", "t1"]}, "a different one"),
        (ONES * 0, {"channels": "t1"}, "0 everywhere"),
        (ONES, {"channels": "t1", "spacing": (1, 1)}, "three sizes in mm"),
        (ONES, {"channels": "t1", "spacing": (1, 1, -1)}, "three sizes in mm"),
    ],
)
def test_an_array_that_cannot_be_used_is_refused_in_words(
    checkpoint: Checkpoint, array: Any, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        pipeline(checkpoint).predict(array, **arguments)


def test_a_path_must_hold_one_case(checkpoint: Checkpoint, picture_path: Path, tmp_path: Path) -> None:
    pipe = pipeline(checkpoint)
    with pytest.raises(DataError, match=r"none\.png: does not exist"):
        pipe.predict(tmp_path / "none.png")
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(picture_path.read_bytes())
    with pytest.raises(DataError, match=r"holds 2 cases \(a, b, \.\.\.\).*Pipeline\.find"):
        pipe.predict(folder)


def test_thresholds_of_the_caller_hold_and_are_told(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", checkpoint)
    pipe = Pipeline.load(tmp_path / "m.pth", device="cpu", class_threshold=0.25)
    assert pipe.points.picture.postprocessing.class_threshold == 0.25
    assert pipe.points.picture.origin.startswith("class_threshold=0.25 as given; configured thresholds")
    with pytest.raises(ConfigError, match="class_threshold"):
        Pipeline.load(tmp_path / "m.pth", device="cpu", class_treshold=0.25)
    with pytest.raises(ConfigError, match=r"evaluation\.class_threshold"):
        Pipeline.load(tmp_path / "m.pth", device="cpu", class_threshold=7)
