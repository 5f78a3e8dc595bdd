import asyncio
import base64
import gzip
import html
import io
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image
from tests.inference.pipelines import PLAIN

from slicewise.config.compose import compose
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import CheckpointError, WorkspaceError
from slicewise.core.files import write_json
from slicewise.domain.labels import Task
from slicewise.inference.calibration import Scaling
from slicewise.inference.operating_points import OperatingConditions
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.prediction import SlicePredictions
from slicewise.models.checkpoint import load_checkpoint, save_checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.serving.api.app import create_app, main

MIB = 1 << 20
SERVING = compose([]).serving.model_copy(update={"max_upload_mib": 2})
GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def load(checkpoint_path: Path, inference: InferenceSettings = PLAIN, **overrides: Any) -> Pipeline:
    return Pipeline.load(checkpoint_path, device="cpu", **inference._asdict(), **overrides)


@pytest.fixture(scope="module")
def client(checkpoint_path: Path, cases_dir: Path) -> Iterator[TestClient]:
    app = create_app(load(checkpoint_path), SERVING, cases_dir=cases_dir)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def opened(png: str | bytes) -> NDArray[np.uint8]:
    data = base64.b64decode(png) if isinstance(png, str) else png
    return np.asarray(Image.open(io.BytesIO(data)))


def examine(client: TestClient, path: Path, **form: str) -> dict[str, Any]:
    response = client.post("/predict", files={"file": (path.name, path.read_bytes())}, data=form)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_health_names_the_model_that_is_loaded(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ready", "fingerprint": "f" * 64}


def test_model_info_tells_what_the_checkpoint_knows(client: TestClient) -> None:
    info = client.get("/model/info").json()
    assert info["model"]["encoder"] == "resnet18"
    assert info["preprocessing"]["image_size"] == 64
    assert info["class_names"] == ["no_tumour", "tumour"]
    assert info["metrics"] == {"dice": 0.5}
    assert (info["stage"], info["data_name"], info["synthetic"]) == ("joint", "phantom", True)
    assert "not a medical device" in info["notice"].lower()


def test_a_picture_is_examined_in_its_own_size(client: TestClient, picture_path: Path) -> None:
    answer = examine(client, picture_path)
    assert answer["kind"] == "picture"
    assert 0 <= answer["tumour_probability"] <= 1
    assert answer["label"] == ("tumour" if answer["tumour_probability"] >= 0.5 else "no_tumour")
    mask = opened(answer["mask_png"])
    assert mask.shape == (40, 48)
    assert set(np.unique(mask)) <= {0, 255}
    assert answer["modalities"] == ["flair"]
    assert answer["gradcam_png"] is None


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_picture_mode_is_read(
    client: TestClient, picture_path: Path, tmp_path: Path, mode: str, kind: str
) -> None:
    path = tmp_path / f"picture.{kind.lower()}"
    Image.open(picture_path).convert(mode).save(path, format=kind)
    assert examine(client, path)["kind"] == "picture"


def test_jpeg_and_a_capital_suffix_are_read(client: TestClient, picture_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "PICTURE.JPG"
    Image.open(picture_path).save(path, format="JPEG")
    assert examine(client, path)["kind"] == "picture"


def test_a_slice_of_kaggle_3m_is_three_sequences_as_predict_reads_it(
    checkpoint_path: Path, chosen_path: Path, tmp_path: Path
) -> None:
    client = decided_by(checkpoint_path, chosen_path)
    colours = np.random.default_rng(0).integers(20, 255, (40, 48, 3), np.uint8)
    path = tmp_path / "TCGA_CS_4941_19960909_7.tif"
    Image.fromarray(colours).save(path)
    answer = examine(client, path)
    assert (answer["kind"], answer["modalities"]) == ("picture", ["t1", "t1ce", "flair"])
    assert answer["origin"] == "chosen on 9 validation patients of brats"
    other = path.rename(tmp_path / "holiday_7.tif")
    assert examine(client, other)["modalities"] == ["flair"]
    assert "kaggle had no validation cases" in examine(client, other)["origin"]


def test_volumes_of_another_place_are_told(client: TestClient, volume_path: Path, tmp_path: Path) -> None:
    image = nib.load(volume_path)
    affine = image.affine.copy()
    affine[2, 3] += 30
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "moved.nii")
    files = {
        "flair": ("a.nii.gz", volume_path.read_bytes()),
        "t2": ("moved.nii", (tmp_path / "moved.nii").read_bytes()),
    }
    note = client.post("/predict", files=files).json()["note"]
    assert (
        "a.nii.gz: its centre is 30.0 mm from that of moved.nii (right +0.0, front +0.0, top -30.0)" in note
    )
    assert "slicewise-upload" not in note
    assert client.post("/predict", files={"flair": files["flair"]}).json()["note"] is None


def test_gradcam_comes_when_asked_for(client: TestClient, picture_path: Path) -> None:
    files = {"file": (picture_path.name, picture_path.read_bytes())}
    answer = client.post("/predict", files=files, params={"gradcam": "true"}).json()
    assert opened(answer["gradcam_png"]).ndim == 3


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_is_examined_slice_by_slice(
    client: TestClient, volume_path: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"case{suffix}"
    nib.save(nib.load(volume_path), path)
    answer = examine(client, path, modality="flair")
    assert answer["kind"] == "volume"
    assert answer["num_slices"] == len(answer["slices"]) == 12
    assert all(0 <= one["probability"] <= 1 for one in answer["slices"] if one["probability"] is not None)
    areas = [one["tumour_mm2"] for one in answer["slices"]]
    assert answer["tumour_ml"] == pytest.approx(sum(areas) * 2.0 / 1000, rel=1e-3)
    assert answer["largest_slice"] == (int(np.argmax(areas)) if any(areas) else None)
    assert 1 <= len(answer["key_slices"]) <= 3
    assert opened(answer["key_slices"][0]["overlay_png"]).ndim == 3


def test_the_mask_lies_on_the_grid_of_the_upload(
    client: TestClient, volume_path: Path, tmp_path: Path
) -> None:
    answer = examine(client, volume_path, modality="t2")
    response = client.get(answer["mask_url"])
    assert response.headers["content-disposition"] == 'attachment; filename="mask.nii.gz"'
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(response.content)
    mask, image = nib.load(path), nib.load(volume_path)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine)
    assert np.asarray(mask.dataobj).sum() * 4.5 / 1000 == pytest.approx(answer["tumour_ml"], rel=1e-3)


@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 2), (1, 4), (0, 0)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_mask_repeats_the_geometry_of_the_upload_bit_by_bit(
    client: TestClient, volume_path: Path, tmp_path: Path, qform: int, sform: int, suffix: str
) -> None:
    image = nib.load(volume_path)
    image.set_qform(image.affine, qform)
    image.set_sform(image.affine, sform)
    image.header.set_xyzt_units("micron", "sec")
    image.header["pixdim"][4] = 2.5
    image.to_filename(tmp_path / f"scan{suffix}")
    answer = examine(client, tmp_path / f"scan{suffix}", modality="t2")
    (tmp_path / "mask.nii.gz").write_bytes(client.get(answer["mask_url"]).content)
    scan, mask = (nib.load(path).header for path in (tmp_path / f"scan{suffix}", tmp_path / "mask.nii.gz"))
    for field in GEOMETRY:
        assert scan[field].tobytes() == mask[field].tobytes(), field


def test_modalities_of_one_request_fill_their_slots(client: TestClient, volume_path: Path) -> None:
    content = volume_path.read_bytes()
    files = {name: (f"{name}.nii.gz", content) for name in ("flair", "t1ce")}
    assert client.post("/predict", files=files).json()["modalities"] == ["t1ce", "flair"]


@pytest.mark.parametrize("layer", ["plain", "overlay", "gradcam"])
def test_any_slice_can_be_drawn(client: TestClient, volume_path: Path, layer: str) -> None:
    key = examine(client, volume_path, modality="flair")["id"]
    for index in (0, 6, 11):
        response = client.get(f"/results/{key}/slices/{index}.png", params={"layer": layer})
        assert response.headers["content-type"] == "image/png"
        assert min(opened(response.content).shape[:2]) >= 40
    assert client.get(f"/results/{key}/slices/12.png").status_code == 404


def test_slices_say_which_side_is_right_and_pictures_do_not(
    client: TestClient, volume_path: Path, picture_path: Path
) -> None:
    key = examine(client, volume_path, modality="flair")["id"]
    drawn = opened(client.get(f"/results/{key}/slices/0.png", params={"layer": "plain"}).content)
    assert not drawn[:, 100:-100].any()  # no tissue in this slice
    letters = drawn[:, :100], drawn[:, -100:]
    assert all((part == 255).any() for part in letters)
    assert (letters[0] > 128).sum() > (letters[1] > 128).sum()  # an R has more strokes than an L
    picture = opened(examine(client, picture_path)["picture_png"])
    assert not picture[picture.shape[0] // 2, :20].any()


def test_no_evidence_is_drawn_on_a_slice_that_is_not_called_tumour(
    checkpoint_path: Path, tmp_path: Path, volume_path: Path
) -> None:
    for threshold, hot in ((0.0, True), (1.0, False)):
        pipeline = load(checkpoint_path, class_threshold=threshold)
        app = create_app(pipeline, SERVING, cases_dir=tmp_path / "none")
        client = TestClient(app, base_url="http://127.0.0.1")
        key = examine(client, volume_path, modality="flair")["id"]
        drawn = opened(client.get(f"/results/{key}/slices/6.png", params={"layer": "gradcam"}).content)
        assert bool(np.ptp(drawn.astype(int), axis=-1).any()) is hot


def test_every_answer_warns_where_the_model_saw_generated_patients_only(
    client: TestClient, checkpoint_path: Path, tmp_path: Path, picture_path: Path
) -> None:
    answer = examine(client, picture_path)
    assert answer["synthetic"] is True
    assert "generated patients only" in answer["warning"]
    save_checkpoint(tmp_path / "real.pth", replace(load_checkpoint(checkpoint_path), synthetic=False))
    answer = examine(decided_by(tmp_path / "real.pth", None), picture_path)
    assert (answer["synthetic"], answer["warning"]) == (False, None)


@pytest.mark.parametrize("key", ["x", "A" * 16, "%2e%2e%2f%2e%2e%2fsecret"])
def test_an_unknown_result_is_told_how_long_results_are_kept(client: TestClient, key: str) -> None:
    gone = client.get(f"/results/{key}/mask.nii.gz")
    assert gone.status_code == 404
    if "%" not in key:
        assert "kept for 24 h after they were last looked at: send the files again" in gone.json()["detail"]


def test_bundled_cases_are_listed_and_examined(client: TestClient) -> None:
    assert client.get("/cases").json() == [
        {"name": "Phantom_10000", "modalities": ["t1", "t1ce", "t2", "flair"]}
    ]
    answer = client.post("/cases/Phantom_10000/predict", params={"gradcam": "true"}).json()
    assert answer["modalities"] == ["t1", "t1ce", "t2", "flair"]
    assert opened(answer["key_slices"][0]["gradcam_png"]).ndim == 3


@pytest.mark.parametrize("name", ["Phantom_1", "%2e%2e%2fetc"])
def test_an_unknown_case_is_not_looked_for_on_disk(client: TestClient, name: str) -> None:
    assert client.post(f"/cases/{name}/predict").status_code == 404


def truncated(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("name", "content", "status", "words"),
    [
        ("empty.png", b"", 400, "empty.png is empty"),
        ("notes.txt", b"hello there", 415, "send a PNG, JPEG or TIFF"),
        ("scan.dcm", b"\\0" * 128 + b"DICM", 415, "NIfTI"),
        ("broken.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, 422, "broken.png"),
        ("x.nii.gz", b"\x1f\x8b" + b"\0" * 40, 422, "x.nii.gz"),
        ("../../etc/passwd.txt", b"root", 415, "passwd.txt"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_way_out(
    client: TestClient, name: str, content: bytes, status: int, words: str
) -> None:
    response = client.post("/predict", files={"file": (name, content)}, data={"modality": "flair"})
    assert response.status_code == status, response.text
    error = response.json()["detail"]
    assert words in error
    assert "/tmp" not in error
    assert ".." not in error


def test_a_truncated_volume_and_picture_are_named(
    client: TestClient, volume_path: Path, picture_path: Path
) -> None:
    for path in (volume_path, picture_path):
        files = {"file": (f"my {path.name}", truncated(path))}
        response = client.post("/predict", files=files, data={"modality": "flair"})
        assert response.status_code == 422
        assert f"my {path.name}" in response.json()["detail"]


def test_a_file_is_named_once_as_the_client_named_it(client: TestClient, volume_path: Path) -> None:
    """Also where the client's names hold ours, or are those of each other."""
    for name in ("X_flair.nii.gz", "flair.nii.gz", "t1.nii.gz", "/data/X flair.nii.gz"):
        files = {"flair": (name, truncated(volume_path)), "t1": ("flair.nii.gz", volume_path.read_bytes())}
        error = client.post("/predict", files=files).json()["detail"]
        assert error.startswith(f"{Path(name).name}: truncated or corrupt (")
        assert error.count("nii.gz") == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda data: gzip.compress(data), "x.nii.gz: compressed with gzip twice; decompress it once"),
        (lambda _: gzip.compress(b"<html>" * 99), "x.nii.gz: its gzip holds no NIfTI file but an HTML page"),
        (lambda _: b"<html>" * 99, "x.nii.gz is an HTML page"),
        (lambda _: nib.AnalyzeHeader().binaryblock, "x.nii.gz is an Analyze 7.5 header"),
        (lambda _: bytes(128) + b"DICM" + bytes(99), "x.nii.gz is a DICOM file; convert the series"),
        (lambda _: nib.Nifti1Image(np.zeros((4, 4, 4, 4)), np.eye(4)).to_bytes(), "4 volumes in one file"),
    ],
    ids=["gzip twice", "html in gzip", "html", "analyze", "dicom", "4-D"],
)
def test_a_file_of_another_kind_is_called_what_it_is(
    client: TestClient, volume_path: Path, make: Any, words: str
) -> None:
    response = client.post("/predict", files={"flair": ("x.nii.gz", make(volume_path.read_bytes()))})
    assert response.status_code in (415, 422)
    assert words in response.json()["detail"]


def test_what_is_assumed_about_a_volume_is_said(
    client: TestClient, volume_path: Path, tmp_path: Path
) -> None:
    image = nib.load(volume_path)
    image.header["sform_code"] = image.header["qform_code"] = 0
    nib.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(tmp_path / "a.nii")
    answer = examine(client, tmp_path / "a.nii", modality="flair")
    assert "a.nii: its header holds no orientation" in answer["note"]


def test_a_volume_without_modality_is_asked_for_it(client: TestClient, volume_path: Path) -> None:
    response = client.post("/predict", files={"file": ("a.nii.gz", volume_path.read_bytes())})
    assert response.status_code == 400
    assert "t1, t1ce, t2, flair" in response.json()["detail"]


@pytest.mark.parametrize(
    ("name", "modality"), [("P_T1_Gd.nii.gz", "t1ce"), ("P_T2_FLAIR_bet.nii.gz", "flair")]
)
def test_the_name_of_a_volume_says_its_modality(
    client: TestClient, volume_path: Path, name: str, modality: str
) -> None:
    response = client.post("/predict", files={"file": (name, volume_path.read_bytes())})
    assert response.json()["modalities"] == [modality]


@pytest.mark.parametrize(
    ("name", "said"),
    [("P_T1_post_op.nii.gz", "may say t1 or t1ce"), ("P_seg.nii.gz", "is a mask by its name")],
)
def test_what_the_name_of_a_volume_leaves_open_is_said(
    client: TestClient, volume_path: Path, name: str, said: str
) -> None:
    response = client.post("/predict", files={"file": (name, volume_path.read_bytes())})
    assert response.status_code == 400
    assert said in response.json()["detail"]


def test_a_field_that_contradicts_the_name_of_its_file_is_said(client: TestClient, volume_path: Path) -> None:
    answer = client.post("/predict", files={"t2": ("P_flair.nii.gz", volume_path.read_bytes())}).json()
    assert answer["modalities"] == ["t2"]
    assert "P_flair.nii.gz: sent as t2, though its name says flair" in answer["note"]


@pytest.mark.parametrize(
    ("names", "patients"),
    [
        ({"t1": "BraTS20_001_t1.nii.gz", "flair": "BraTS20_002_flair.nii.gz"}, "BraTS20_001, BraTS20_002"),
        ({"t1": "BraTS20_001_t1.nii.gz", "flair": "brats20_001_flair.nii.gz"}, ""),
        ({"t1": "BraTS20_001_t1.nii.gz", "flair": "scan.nii.gz"}, ""),
        ({"t1": "t1.nii.gz", "flair": "flair.nii.gz"}, ""),
    ],
)
def test_volumes_of_different_patients_by_their_names_are_a_warning(
    client: TestClient, volume_path: Path, names: dict[str, str], patients: str
) -> None:
    files = {field: (name, volume_path.read_bytes()) for field, name in names.items()}
    answer = client.post("/predict", files=files).json()
    said = f"the file names belong to different patients ({patients})"
    assert [note.partition(";")[0] for note in answer["file_notes"]] == ([said] if patients else [])
    assert (said in (answer["note"] or "")) == bool(patients)


def test_a_mask_of_a_picture_is_not_examined(client: TestClient, picture_path: Path) -> None:
    files = {"file": ("Y0_mask.png", picture_path.read_bytes())}
    response = client.post("/predict", files=files)
    assert response.status_code == 400
    assert "Y0_mask.png is a mask" in response.json()["detail"]
    assert client.post("/predict", files=files, data={"modality": "t1"}).status_code == 200


def test_no_file_mixed_files_and_a_wrong_modality_are_refused(
    client: TestClient, volume_path: Path, picture_path: Path
) -> None:
    assert client.post("/predict").status_code == 400
    mixed = {"flair": ("a.nii.gz", volume_path.read_bytes()), "t1": ("b.png", picture_path.read_bytes())}
    assert client.post("/predict", files=mixed).status_code == 400
    response = client.post("/predict", files={"file": ("a.nii", b"x")}, data={"modality": "pet"})
    assert response.status_code == 422
    assert "'flair'" in response.json()["detail"]


def test_a_field_that_nobody_would_read_is_refused(client: TestClient, volume_path: Path) -> None:
    content = volume_path.read_bytes()
    files = {name: (f"{name}.nii.gz", content) for name in ("flair", "t1c")}
    response = client.post("/predict", files=files, data={"modalty": "t1"})
    assert response.status_code == 400
    assert "t1c" in response.json()["detail"]
    assert "modalty" in response.json()["detail"]
    assert response.json()["detail"].endswith("the fields are file, modality, t1, t1ce, t2, flair")


@pytest.mark.parametrize("name", ["flair", "file", "modality"])
def test_a_field_that_is_sent_twice_is_refused(client: TestClient, volume_path: Path, name: str) -> None:
    content = volume_path.read_bytes()
    sent: list[tuple[str, Any]] = [("flair", ("f.nii.gz", content)), ("t1", ("t.nii.gz", content))]
    sent += [(name, (None, "t2") if name == "modality" else (f"{name}.nii.gz", content)) for _ in range(2)]
    response = client.post("/predict", files=sent)
    assert response.status_code == 400
    assert f"the form field {name} was sent more than once" in response.json()["detail"]


@pytest.mark.parametrize("address", ["/predict", "/cases/Phantom_10000/predict"])
def test_parameters_and_fields_that_nobody_would_read_are_refused(client: TestClient, address: str) -> None:
    for query, words in (
        ("gradcm=true", "there is no query parameter gradcm; the parameters are gradcam"),
        ("modality=t1", "there is no query parameter modality"),
        ("gradcam=true&gradcam=false", "the query parameter gradcam was sent more than once"),
    ):
        response = client.post(f"{address}?{query}")
        assert response.status_code == 400
        assert words in response.json()["detail"]
    response = client.post("/cases/Phantom_10000/predict", data={"gradcam": "true"})
    assert "there is no form field gradcam; this address takes none" in response.json()["detail"]


def test_volumes_on_different_grids_are_refused(
    client: TestClient, volume_path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.int16), np.eye(4)), other)
    files = {"t1": ("one.nii.gz", volume_path.read_bytes()), "t2": ("two.nii.gz", other.read_bytes())}
    response = client.post("/predict", files=files)
    assert response.status_code == 422
    assert "two.nii.gz" in response.json()["detail"]


def test_a_body_over_the_limit_is_refused(client: TestClient) -> None:
    response = client.post("/predict", files={"file": ("big.png", b"\x89PNG\r\n\x1a\n" + bytes(4 * MIB))})
    assert response.status_code == 413
    assert "2 MiB" in response.json()["detail"]


def test_a_body_of_unknown_length_is_measured_while_it_arrives(client: TestClient) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 64 * 1024
            yield bytes(64 * 1024)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/predict", content=body(), headers=headers).status_code == 413


def test_nothing_of_an_upload_stays_behind(
    client: TestClient, volume_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    examine(client, volume_path, modality="flair")
    client.post("/predict", files={"file": ("x.nii.gz", truncated(volume_path))}, data={"modality": "t1"})
    assert list(private.iterdir()) == []


def test_health_answers_while_a_prediction_runs(
    client: TestClient, picture_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, release = threading.Event(), threading.Event()
    infer = Pipeline.infer

    def slow(*args: Any) -> SlicePredictions:
        running.set()
        assert release.wait(20)
        return infer(*args)

    monkeypatch.setattr(Pipeline, "infer", slow)
    thread = threading.Thread(target=examine, args=(client, picture_path))
    thread.start()
    try:
        assert running.wait(20)
        started = time.perf_counter()
        assert client.get("/healthz").status_code == 200
        assert time.perf_counter() - started < 2
    finally:
        release.set()
        thread.join()


def test_answers_are_local_and_carry_security_headers(client: TestClient) -> None:
    response = client.get("/healthz", headers={"origin": "https://example.org"})
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in response.headers
    assert client.get("/healthz", headers={"host": "example.org"}).status_code == 400


def test_an_unknown_address_and_an_accident_are_answered_in_words(
    client: TestClient, picture_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "/nothing" in client.get("/nothing").json()["detail"]

    def fail(*_: object) -> SlicePredictions:
        raise RuntimeError("secret")

    monkeypatch.setattr(Pipeline, "infer", fail)
    response = client.post("/predict", files={"file": ("a.png", picture_path.read_bytes())})
    assert response.status_code == 500
    assert "secret" not in response.json()["detail"]


def test_the_openapi_document_describes_every_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/healthz",
        "/readyz",
        "/queue",
        "/metrics",
        "/classify",
        "/classify/gradcam",
        "/classify/batch",
        "/segment",
        "/segment/uncertainty",
        "/segment/batch",
        "/patient/analyze",
        "/model/info",
        "/predict",
        "/cases",
        "/cases/{name}/predict",
        "/results/{result}",
        "/results/{result}/image/{channel}.nii.gz",
        "/results/{result}/mask.nii.gz",
        "/results/{result}/probability.nii.gz",
        "/results/{result}/truth.nii.gz",
        "/results/{result}/seg.dcm",
        "/results/{result}/image.png",
        "/results/{result}/mask.png",
        "/results/{result}/probability.png",
        "/results/{result}/slices/{index}.png",
    }
    assert all(operation["description"] for path in paths.values() for operation in path.values())


CHOSEN = Postprocessing(Scaling(2.0), 0.2, 0.4, min_component=20)


@pytest.fixture
def chosen_path(tmp_path: Path, checkpoint_path: Path) -> Path:
    """What an evaluation leaves that chose for volumes alone."""
    weights = load_checkpoint(checkpoint_path).weights_digest
    choice = {"decision": CHOSEN.to_json(), "validation": {"num_patients": 9}, "notes": []}
    made_for = OperatingConditions(weights, PLAIN, "brats", "kaggle").to_json()
    write_json(tmp_path / "calibration.json", {"made_for": made_for, "sources": {"brats": choice}})
    return tmp_path / "calibration.json"


def decided_by(
    checkpoint_path: Path, calibration_path: Path | None, inference: InferenceSettings = PLAIN
) -> TestClient:
    if calibration_path is not None:
        checkpoint_path = Path(shutil.copy(checkpoint_path, calibration_path.with_name("best_model.pth")))
    pipeline = load(checkpoint_path, inference)
    app = create_app(pipeline, SERVING, cases_dir=checkpoint_path.parent / "none")
    return TestClient(app, base_url="http://127.0.0.1")


def test_what_the_evaluation_chose_decides_and_is_told(
    client: TestClient, checkpoint_path: Path, chosen_path: Path, volume_path: Path, picture_path: Path
) -> None:
    chosen = decided_by(checkpoint_path, chosen_path)
    points = chosen.get("/model/info").json()["operating_points"]
    assert points["volume"]["origin"] == "chosen on 9 validation patients of brats"
    assert "temperature 2, parts from 20 voxels" in points["volume"]["decision"]
    plain, answer = (examine(one, volume_path, modality="flair") for one in (client, chosen))
    assert (answer["class_threshold"], answer["mask_threshold"]) == (0.2, 0.4)
    assert (plain["calibrated"], answer["calibrated"]) == (False, True)
    assert "nothing was chosen" in plain["origin"]
    raw = [one["probability"] for one in plain["slices"] if one["probability"] is not None]
    tempered = [one["probability"] for one in answer["slices"] if one["probability"] is not None]
    np.testing.assert_allclose(tempered, Scaling(2.0)(raw), atol=1e-6)
    assert answer["label"] == ("tumour" if answer["tumour_probability"] >= 0.2 else "no_tumour")
    assert examine(chosen, picture_path)["class_threshold"] == 0.5, "chosen for volumes alone"


def test_with_other_flips_than_were_chosen_with_the_configured_thresholds_stay(
    client: TestClient, checkpoint_path: Path, chosen_path: Path, volume_path: Path
) -> None:
    flipped = decided_by(checkpoint_path, chosen_path, InferenceSettings(flips=True))
    assert flipped.get("/model/info").json()["flips"] is True
    answer = examine(flipped, volume_path, modality="flair")
    assert answer["class_threshold"] == 0.5
    assert "evaluation.flips=False" in answer["origin"]
    assert (
        answer["tumour_probability"] != examine(client, volume_path, modality="flair")["tumour_probability"]
    )


def test_a_damaged_choice_is_refused_before_anything_is_served(
    checkpoint_path: Path, chosen_path: Path
) -> None:
    chosen_path.write_text('{"made_for": 1}')
    with pytest.raises(WorkspaceError, match=r"calibration\.json is damaged"):
        decided_by(checkpoint_path, chosen_path)


def test_a_foreign_checkpoint_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pth"
    path.write_bytes(b"not a checkpoint")
    settings = compose([]).evaluation.model_dump_json()
    options = [
        "--checkpoint",
        path,
        "--serving",
        SERVING.model_dump_json(),
        "--device",
        "cpu",
        "--cases",
        tmp_path,
    ]
    assert main([*map(str, options), "--settings", settings]) == CheckpointError.exit_code


def untaught(checkpoint_path: Path, folder: Path, task: Task) -> TestClient:
    path = folder / "untaught.pth"
    checkpoint = load_checkpoint(checkpoint_path)
    save_checkpoint(path, replace(checkpoint, tasks=checkpoint.tasks.model_copy(update={task: None})))
    return decided_by(path, None)


def test_an_absent_head_says_nothing(
    checkpoint_path: Path, volume_path: Path, picture_path: Path, tmp_path: Path
) -> None:
    client = untaught(checkpoint_path, tmp_path, "classification")
    assert client.get("/model/info").json()["tasks"] == ["segmentation"]
    for path in (volume_path, picture_path):
        files = {"file": (path.name, path.read_bytes())}
        form, ask = {"modality": "flair"}, {"gradcam": "true"}
        answer = client.post("/predict", files=files, data=form, params=ask).json()
        assert (answer["tumour_probability"], answer["label"]) == (None, None)
        shown = answer if answer["kind"] == "picture" else answer["key_slices"][0]
        assert shown["gradcam_png"] is None
        assert opened(shown["overlay_png"]).ndim == 3


def test_absent_masks_are_not_shown(
    checkpoint_path: Path, volume_path: Path, picture_path: Path, tmp_path: Path
) -> None:
    client = untaught(checkpoint_path, tmp_path, "segmentation")
    picture, volume = examine(client, picture_path), examine(client, volume_path, modality="flair")
    assert picture["mask_png"] is picture["overlay_png"] is picture["tumour_share"] is None
    assert volume["tumour_ml"] is volume["mask_url"] is volume["largest_slice"] is None
    assert {one["tumour_mm2"] for one in volume["slices"]} == {None}
    assert volume["label"] in ("tumour", "no_tumour")
    for place in ("mask.nii.gz", "slices/6.png?layer=overlay"):
        response = client.get(f"/results/{volume['id']}/{place}")
        assert response.status_code == 404
        assert "the model has no segmentation" in response.json()["detail"]
    assert client.get(f"/results/{volume['id']}/slices/6.png?layer=plain").status_code == 200


@pytest.mark.parametrize("channels", [("flair", "t2"), ("ct",)])
def test_the_form_has_the_channels_of_the_model(
    channels: tuple[str, ...], checkpoint_path: Path, tmp_path: Path, volume_path: Path
) -> None:
    checkpoint = load_checkpoint(checkpoint_path)
    preprocessing = checkpoint.preprocessing.model_copy(update={"channels": channels})
    weights = MultitaskModel(checkpoint.model, checkpoint.tasks, len(channels)).state_dict()
    path = tmp_path / "other.pth"
    save_checkpoint(path, replace(checkpoint, weights=weights, preprocessing=preprocessing, slot=channels[0]))
    client, file = decided_by(path, None), ("a.nii.gz", volume_path.read_bytes())
    answer = client.post("/predict", files=dict.fromkeys(channels, file)).json()
    assert answer["modalities"] == [*channels]
    assert examine(client, volume_path, modality=channels[0])["modalities"] == [channels[0]]
    refusals = [client.post("/predict", files={field: file}) for field in ("t1", "file")]
    assert [response.status_code for response in refusals] == [400, 400]
    first, second = (response.json()["detail"] for response in refusals)
    assert first.endswith(f"the fields are file, modality, {', '.join(channels)}")
    assert second.endswith(f"set the form field `modality` to one of {', '.join(channels)}")


def test_the_documentation_loads_nothing_and_tells_every_route(client: TestClient) -> None:
    response = client.get("/")
    assert str(response.url).endswith("/docs")
    page = response.text
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "<script" not in page
    assert "http" not in page.replace("http://127.0.0.1:8601", "")  # the curl lines
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page
            first, *_ = operation["description"].partition("\n\n")
            assert html.escape(first.replace("`", "")) in page
    for said in (
        "t1ce (form)",
        "gradcam (query)",
        "tumour_probability",
        "mask_url",
        "The upload is too large",
    ):
        assert said in page
    assert client.get("/redoc").status_code == 404


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\nno form at all"),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded", b"%%%=\xff\xfe&&&=;"),
        ("application/json", b'{"file": 1}'),
        ("application/octet-stream", b"\x1f\x8b\x08"),
    ],
)
def test_a_body_that_is_no_form_is_refused_and_no_fault_of_ours(
    client: TestClient, kind: str, body: bytes
) -> None:
    response = client.post("/predict", content=body, headers={"content-type": kind})
    assert response.status_code == 400, response.text
    assert response.json()["detail"]


def test_a_client_that_leaves_is_no_fault_of_ours(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [
        {"type": "http.request", "body": b"--x\r\n", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "root_path": "",
        "query_string": b"", "scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"multipart/form-data; boundary=x")],
    }  # fmt: skip

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]  # dicts are what ASGI sends
    assert sent[0]["status"] == 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
