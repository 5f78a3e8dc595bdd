"""Routes of one task, batches, examinations; what they return by Accept; key and metrics."""

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.fixtures.dicom import Series
from tests.fixtures.services import head_volume, save_volume
from tests.inference.pipelines import PLAIN

from slicewise.config.compose import compose
from slicewise.core.errors import UsageError
from slicewise.inference.pipeline import Pipeline
from slicewise.serving import API_KEY_FILE_VARIABLE
from slicewise.serving.api.access import read_api_key
from slicewise.serving.api.app import create_app
from slicewise.serving.api.archives import natural_order
from slicewise.serving.api.negotiation import JSON, NIFTI, PNG, acceptable
from slicewise.serving.api.problems import PROBLEM_JSON, RequestError

SERVING = compose([]).serving.model_copy(update={"max_upload_mib": 2, "max_batch": 4})
KEY = "0123456789abcdef-key"


def make_client(checkpoint_path: Path, cases_dir: Path, **options: Any) -> TestClient:
    pipeline = Pipeline.load(checkpoint_path, device="cpu", **PLAIN._asdict())
    app = create_app(pipeline, SERVING, cases_dir=cases_dir, num_threads=1, **options)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(checkpoint_path: Path, cases_dir: Path) -> Iterator[TestClient]:
    with make_client(checkpoint_path, cases_dir) as client:
        yield client


def post(client: TestClient, address: str, *paths: Path, accept: str = "*/*", **form: Any) -> Any:
    field = "files" if len(paths) > 1 else "file"
    files = [(field, (path.name, path.read_bytes())) for path in paths]
    return client.post(address, files=files, data=form, headers={"accept": accept})


def opened(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


def stack(folder: Path, order: range = range(12)) -> list[Path]:
    """Slices of the head as pictures of 8 bits, named so that 2 comes before 10."""
    folder.mkdir(exist_ok=True)
    volume = (head_volume().transpose(2, 1, 0) // 4).clip(0, 255).astype(np.uint8)
    rng = np.random.default_rng(0)
    volume[volume == 0] = rng.integers(0, 2, np.count_nonzero(volume == 0))  # an empty slice is refused
    paths = [folder / f"slice_{index}.png" for index in order]
    for index, path in zip(order, paths, strict=True):
        Image.fromarray(volume[index]).save(path)
    return paths


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["picture_path", "volume_path"])
def test_each_task_alone_says_what_both_together_say(
    kind: str, client: TestClient, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    form = {"modality": "flair"}
    both, classes, masks = (
        post(client, address, path, **form).json() for address in ("/predict", "/classify", "/segment")
    )
    assert classes["kind"] == masks["kind"] == both["kind"] == ("picture" if "picture" in kind else "volume")
    for field in ("tumour_probability", "label", "verdict", "uncertain_band", "lesions", "file_notes"):
        assert classes[field] == masks[field] == both[field]
    assert not [name for name in classes if name.endswith("_png")]
    if both["kind"] == "volume":
        assert (masks["tumour_ml"], masks["slices"]) == (both["tumour_ml"], both["slices"])
        assert [one["probability"] for one in classes["slices"]] == [
            one["probability"] for one in both["slices"]
        ]
    assert client.get(f"/results/{masks['id']}").json() == masks


def test_the_mask_comes_as_png_or_nifti_where_it_is_accepted(
    client: TestClient, picture_path: Path, volume_path: Path, tmp_path: Path
) -> None:
    mask = post(client, "/segment", picture_path, accept="image/png")
    assert (mask.status_code, mask.headers["content-type"]) == (200, "image/png")
    assert opened(mask.content).shape == (40, 48)
    address = post(client, "/segment", picture_path).json()["mask_url"]
    assert client.get(address).content == mask.content
    for accept in ("application/gzip", "application/x-nifti, application/json;q=0.5"):
        response = post(client, "/segment", volume_path, accept=accept, modality="t2")
        assert response.headers["content-type"] == "application/gzip"
    (tmp_path / "mask.nii.gz").write_bytes(response.content)
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii.gz").affine, nib.load(volume_path).affine)
    drawing = post(client, "/predict", volume_path, accept="image/*", modality="t2")
    assert opened(drawing.content).ndim == 3


@pytest.mark.parametrize(
    ("address", "kind", "accept", "words"),
    [
        ("/segment", "picture_path", "text/html", "JSON (application/json) or PNG (image/png) or NIfTI"),
        ("/segment", "picture_path", "application/gzip", "JSON (application/json) or PNG (image/png);"),
        ("/segment", "volume_path", "image/png", "JSON (application/json) or NIfTI (application/gzip);"),
        ("/predict", "picture_path", "application/gzip", "JSON (application/json) or PNG (image/png);"),
        ("/classify", "picture_path", "image/png", "responds with JSON (application/json);"),
        ("/classify/batch", "picture_path", "image/png", "responds with JSON"),
    ],
)
def test_what_is_not_offered_is_a_problem_that_lists_what_is(
    address: str, kind: str, accept: str, words: str, client: TestClient, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(kind)
    form = {"modality": "flair"} if address == "/segment" else {}
    files = {"files" if "batch" in address else "file": (path.name, path.read_bytes())}
    response = client.post(address, files=files, data=form, headers={"accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (406, PROBLEM_JSON)
    assert words in response.json()["detail"]
    assert response.json()["errors"] == [{"field": "accept", "message": "not offered"}]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, [JSON, PNG, NIFTI]),
        ("", [JSON, PNG, NIFTI]),
        ("*/*", [JSON, PNG, NIFTI]),
        ("image/png", [PNG]),
        ("image/*;q=0.2, application/json;q=0.1", [PNG, JSON]),
        ("application/*, application/json;q=0", [NIFTI]),
        ("application/x-nifti", [NIFTI]),
        ("IMAGE/PNG ; q=1.0", [PNG]),
        ("image/png;q=zero, */*;q=0.1", [JSON, NIFTI]),
    ],
)
def test_the_client_s_preferences_decide(accept: str | None, expected: list[str]) -> None:
    assert acceptable(accept, [JSON, PNG, NIFTI]) == expected


def test_nothing_acceptable_is_refused() -> None:
    with pytest.raises(RequestError, match="application/json") as caught:
        acceptable("application/xml, text/*", [JSON])
    assert caught.value.status == 406


def test_the_evidence_comes_with_the_class(client: TestClient, picture_path: Path, volume_path: Path) -> None:
    answer = post(client, "/classify/gradcam", volume_path, modality="flair").json()
    probabilities = {one["index"]: one["probability"] or 0 for one in answer["slices"]}
    assert answer["gradcam_slice"] == max(probabilities, key=probabilities.__getitem__)
    picture = post(client, "/classify/gradcam", picture_path, accept="image/png")
    assert opened(picture.content).ndim == 3


@pytest.mark.parametrize("address", ["/classify/batch", "/segment/batch"])
def test_a_batch_has_a_result_or_a_problem_for_each_file(
    address: str, client: TestClient, picture_path: Path, volume_path: Path
) -> None:
    files: list[tuple[str, Any]] = [
        ("files", ("one.png", picture_path.read_bytes())),
        ("files", ("X_flair.nii.gz", volume_path.read_bytes()[:300])),
        ("files", ("notes.txt", b"hello")),
        ("files", ("P_flair.nii.gz", volume_path.read_bytes())),
    ]
    answer = client.post(address, files=files).json()
    assert [(item["file"], item["status"]) for item in answer["results"]] == [
        ("one.png", 200), ("X_flair.nii.gz", 422), ("notes.txt", 415), ("P_flair.nii.gz", 200),
    ]  # fmt: skip
    assert answer["failed"] == 2
    assert answer["results"][1]["problem"]["detail"].startswith("X_flair.nii.gz: ")
    kinds = [item["result"] and item["result"]["kind"] for item in answer["results"]]
    assert kinds == ["picture", None, None, "volume"]
    if address.startswith("/segment"):
        assert client.get(answer["results"][0]["result"]["mask_url"]).status_code == 200


def test_a_batch_has_a_limit_and_needs_files(client: TestClient, picture_path: Path) -> None:
    response = post(client, "/classify/batch", *[picture_path] * 5)
    assert response.status_code == 413
    assert "at most 4 (serving.max_batch)" in response.json()["detail"]
    response = client.post("/classify/batch")
    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": "files", "message": "Field required"}]


def test_an_examination_is_compared_with_its_reference(
    client: TestClient, volume_path: Path, tmp_path: Path
) -> None:
    answer = post(client, "/segment", volume_path, modality="flair").json()
    mask = client.get(answer["mask_url"]).content
    files = {"flair": (volume_path.name, volume_path.read_bytes()), "truth": ("mask.nii.gz", mask)}
    same = client.post("/patient/analyze", files=files).json()
    assert same["truth"]["dice"] == same["truth"]["iou"] == 1.0
    assert same["truth"]["by_class"]["tumour"]["reference_voxels"] > 0
    assert client.get(same["truth_url"]).content == mask
    half = nib.load(volume_path)
    voxels = np.zeros(half.shape, np.uint8)
    (tmp_path / "mask.nii.gz").write_bytes(mask)
    predicted = np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj)
    voxels[:24] = predicted[:24]
    nib.Nifti1Image(voxels, half.affine).to_filename(tmp_path / "half.nii.gz")
    files["truth"] = ("half.nii.gz", (tmp_path / "half.nii.gz").read_bytes())
    other = client.post("/patient/analyze", files=files).json()
    both, all_of_them = int(voxels.sum()), int(predicted.sum())
    assert other["truth"]["dice"] == pytest.approx(2 * both / (both + all_of_them))
    nib.Nifti1Image(voxels[:-1], half.affine).to_filename(tmp_path / "small.nii.gz")
    files["truth"] = ("small.nii.gz", (tmp_path / "small.nii.gz").read_bytes())
    refused = client.post("/patient/analyze", files=files)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("small.nii.gz: 47 x 40 x 12 voxels where the images has")


def test_a_stack_is_a_volume_however_it_is_sent(client: TestClient, tmp_path: Path) -> None:
    paths = stack(tmp_path / "stack")
    sent = post(client, "/patient/analyze", *reversed(paths), slice_mm="2", pixel_mm="1.5").json()
    assert (sent["kind"], sent["num_slices"], sent["modalities"]) == ("volume", 12, ["flair"])
    areas = [one["tumour_mm2"] for one in sent["slices"]]
    assert sent["tumour_ml"] == pytest.approx(sum(areas) * 2 / 1000)
    archive = zipped({f"case/{path.name}": path.read_bytes() for path in paths})
    form = {"slice_mm": "2", "pixel_mm": "1.5"}
    packed = client.post("/patient/analyze", files={"file": ("case.zip", archive)}, data=form).json()
    assert packed["slices"] == sent["slices"]
    plain = client.post("/patient/analyze", files={"file": ("case.zip", archive)}).json()
    assert plain["tumour_ml"] is None
    assert client.get(plain["mask_url"]).status_code == 200
    assert client.get(plain["image_urls"]["flair"]).status_code == 200


def test_numbers_in_names_are_counted() -> None:
    names = dict.fromkeys(["s10.png", "s9.png", "a/s2.png", "S1.png", "s.png"])
    assert natural_order(names) == ["S1.png", "a/s2.png", "s9.png", "s10.png", "s.png"]


def test_a_zip_of_volumes_is_their_examination(client: TestClient, volume_path: Path) -> None:
    content = volume_path.read_bytes()
    archive = zipped({f"P/P_{name}.nii.gz": content for name in ("flair", "t1ce", "seg")})
    answer = client.post("/patient/analyze", files={"file": ("P.zip", archive)}).json()
    assert answer["modalities"] == ["t1ce", "flair"]
    files = {name: (f"{name}.nii.gz", content) for name in ("flair", "t1ce")}
    single = client.post("/patient/analyze", files=files).json()
    assert (answer["slices"], answer["tumour_ml"]) == (single["slices"], single["tumour_ml"])


def test_dicom_series_come_as_a_zip_and_their_mask_as_dicom_seg(client: TestClient, tmp_path: Path) -> None:
    turn: dict[str, Any] = {"step": np.array([0, 0, -4.0]), "spacing": (1.2, 1.5)}
    voxels = head_volume().transpose(2, 1, 0)
    for number, name in ((2, "AX T1"), (3, "AX FLAIR")):
        Series(voxels, description=name, number=number, **turn).write(tmp_path / "study" / str(number))
    Series(voxels[:5], description="SAG T2", number=4).write(tmp_path / "study" / "4")
    files = [path for path in (tmp_path / "study").rglob("*") if path.is_file()]
    archive = zipped({path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files})
    sent = {"file": ("anna.zip", archive)}
    answer = client.post("/patient/analyze", files=sent).json()
    assert answer["modalities"] == ["t1", "flair"]
    notes = "; ".join(answer["file_notes"])
    assert notes.startswith('study: t1: series 2 "AX T1", 12 slices')
    (warning,) = {*answer["file_notes"]} & {*answer["warnings"]}
    assert 'series 4 "SAG T2" is left out' in warning
    assert not [word for word in ("secret", "-files", "slicewise-upload", "/tmp") if word in str(answer)]
    stored = client.get(answer["dicom_seg_url"])
    assert stored.headers["content-type"] == "application/dicom"
    again = client.post("/patient/analyze", files=sent, headers={"accept": "application/dicom"})
    masks = [pydicom.dcmread(io.BytesIO(each.content)) for each in (stored, again)]
    np.testing.assert_array_equal(masks[0].pixel_array, masks[1].pixel_array)
    (tmp_path / "mask.nii.gz").write_bytes(client.get(answer["mask_url"]).content)
    assert masks[0].pixel_array.sum() == np.count_nonzero(nib.load(tmp_path / "mask.nii.gz").get_fdata())
    paths = {"flair": ("a.nii.gz", save_volume(tmp_path / "a.nii.gz").read_bytes())}
    refused = client.post("/patient/analyze", files=paths, headers={"accept": "application/dicom"})
    assert refused.status_code == 406
    assert "these are no DICOM series" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({"P/P_flair.nii.gz": b"\x1f\x8b" + bytes(99)}, 422, "P_flair.nii.gz"),
        ({"notes.txt": b"hello"}, 422, "notes.txt"),
        ({}, 415, "a zip archive"),
        ({"../out.png": b"x"}, 422, "leads out of the folder"),
        ({"zeros.bin": bytes(9 << 20)}, 413, "case.zip unpacks to 9 MiB; at most 8"),
    ],
)
def test_a_zip_that_holds_no_examination_is_explained(
    client: TestClient, files: dict[str, bytes], status: int, words: str
) -> None:
    response = client.post("/patient/analyze", files={"file": ("case.zip", zipped(files))})
    assert response.status_code == status, response.text
    if files:
        assert words in response.json()["detail"]
    assert "/tmp" not in response.text
    assert "slicewise-upload" not in response.text


def test_fields_of_an_examination_that_do_not_fit_together(
    client: TestClient, tmp_path: Path, volume_path: Path
) -> None:
    paths = stack(tmp_path / "stack", range(3))
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(paths[1])
    response = post(client, "/patient/analyze", *paths)
    assert response.status_code == 422
    assert "slice_1.png is 20 x 20 pixels, grey, and slice_0.png 48 x 40 pixels" in response.json()["detail"]
    response = post(client, "/patient/analyze", paths[0], paths[0])
    assert "the same file name" in response.json()["detail"]
    response = post(client, "/patient/analyze", *paths, slice_mm="2")
    assert response.json()["errors"] == [{"field": "pixel_mm", "message": "missing"}]
    response = post(client, "/patient/analyze", volume_path, modality="t1", slice_mm="2", pixel_mm="1")
    assert "for stacks of pictures" in response.json()["detail"]
    both = [("files", ("a.png", paths[0].read_bytes())), ("t1", ("t.nii.gz", volume_path.read_bytes()))]
    assert client.post("/patient/analyze", files=both).status_code == 400


NAMES = ["X_flair.nii.gz", "flair.nii.gz", "t1.nii.gz", "file.nii.gz", "unnamed.nii.gz", "truth.nii.gz"]
NAMES += ["0.nii.gz", "a_0.nii.gz", "X_flair_flair.nii.gz", "upload_flair.nii.gz", "Ä flair.nii.gz"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_never_doubled_in_a_message(client: TestClient, volume_path: Path, name: str) -> None:
    broken, whole = volume_path.read_bytes()[:500], volume_path.read_bytes()
    requests: list[tuple[str, list[tuple[str, Any]]]] = [
        (address, [(field, (name, broken)), ("t2", ("X_flair.nii.gz", whole))])
        for field in ("flair", "t1")
        for address in ("/predict", "/classify", "/segment", "/patient/analyze")
    ]
    requests += [("/patient/analyze", [("t2", ("X_t2.nii.gz", whole)), ("truth", (name, broken))])]
    texts = [client.post(address, files=files).json()["detail"] for address, files in requests]
    batch = [("files", (name, broken)), ("files", ("b_flair.nii.gz", broken))]
    answer = client.post("/segment/batch", files=batch).json()
    texts += [item["problem"]["detail"] for item in answer["results"][:1]]
    for text in texts:
        assert text.count(name) == 1 or "modality" in text, text
        assert text.count("nii.gz") == 1 or "modality" in text, text


def test_an_api_key_is_needed_where_one_is_configured(
    checkpoint_path: Path, cases_dir: Path, picture_path: Path
) -> None:
    client = make_client(checkpoint_path, cases_dir, api_key=KEY)
    for headers, what in (({}, "no"), ({"x-api-key": KEY[:-1]}, "a wrong"), ({"x-api-key": "ä"}, "a wrong")):
        encoded = {name.encode(): value.encode() for name, value in headers.items()}
        for response in (
            client.get("/model/info", headers=encoded),
            client.post("/predict", files={"file": picture_path.read_bytes()}, headers=encoded),
        ):
            assert (response.status_code, response.headers["content-type"]) == (401, PROBLEM_JSON)
            assert f"the request has {what} API key" in response.json()["detail"]
            assert "X-API-Key" in response.headers["www-authenticate"]
    assert client.get("/model/info", headers={"x-api-key": KEY}).status_code == 200
    for address in ("/healthz", "/readyz", "/metrics", "/docs"):
        assert client.get(address).status_code == 200


def test_the_key_is_read_from_the_file_of_the_settings_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert read_api_key(None) is None
    assert read_api_key(str(path)) == KEY
    monkeypatch.setenv(API_KEY_FILE_VARIABLE, str(path))
    assert read_api_key(None) == KEY
    path.write_text("short")
    with pytest.raises(UsageError, match="at least 16"):
        read_api_key(None)
    with pytest.raises(UsageError, match=r"nowhere.*cannot be read"):
        read_api_key(str(tmp_path / "nowhere"))


def test_metrics_count_requests_by_route_and_verdicts(client: TestClient, picture_path: Path) -> None:
    answer = post(client, "/classify", picture_path).json()
    client.get("/results/AAAAAAAAAAAAAAAA")
    text = client.get("/metrics").text
    assert 'slicewise_requests_total{method="POST",route="/classify",status="200"}' in text
    assert 'route="/results/{result}",status="404"' in text
    assert f'slicewise_verdicts_total{{kind="picture",verdict="{answer["verdict"]}"}}' in text
    for name in ("slicewise_model_seconds_count", "slicewise_batch_cases_bucket", "slicewise_waiting 0.0"):
        assert name in text


@pytest.mark.parametrize(
    ("method", "address", "status", "words"),
    [
        ("GET", "/nothing", 404, "/docs lists all addresses"),
        ("DELETE", "/predict", 405, "does not take DELETE but POST"),
        ("GET", "/results/x/slices/one.png", 422, "index"),
        ("GET", "/healthz?verbose=1", 400, "there is no query parameter verbose; this address takes none"),
        ("GET", "/results/x/mask.nii.gz?layer=1", 400, "there is no query parameter layer"),
    ],
)
def test_every_error_is_a_problem_document(
    client: TestClient, method: str, address: str, status: int, words: str
) -> None:
    response = client.request(method, address, headers={"x-request-id": "mine-1"})
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM_JSON)
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance", "errors"}
    assert words in problem["detail"]
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["instance"] == f"{address.partition('?')[0]}#mine-1"
    assert response.headers["x-request-id"] == "mine-1"
    strange = client.request(method, address, headers={"x-request-id": "a b/c" * 40})
    assert strange.headers["x-request-id"].isalnum()


def test_the_uncertainty_is_that_of_the_command_line_and_a_map_by_accept(
    client: TestClient, picture_path: Path, volume_path: Path
) -> None:
    plain = post(client, "/segment", volume_path, modality="flair").json()
    found = post(client, "/segment/uncertainty", volume_path, modality="flair").json()
    assert found["passes"] == 4
    assert 0 < found["largest_deviation"] <= 0.5
    assert found["probability_deviation"] >= 0
    assert found["tumour_ml"] == plain["tumour_ml"], "the prediction is the same"
    response = post(client, "/segment/uncertainty", volume_path, accept=NIFTI, modality="flair")
    image = nib.Nifti1Image.from_bytes(gzip.decompress(response.content))
    assert image.shape == nib.load(volume_path).shape
    values = np.asarray(image.dataobj)
    assert values.max() == pytest.approx(found["largest_deviation"], abs=0.05)
    picture = post(client, "/segment/uncertainty", picture_path, accept=PNG)
    with Image.open(picture_path) as original:
        assert opened(picture.content).shape == original.size[::-1]
    assert post(client, "/segment/uncertainty", picture_path, accept=NIFTI).status_code == 406
