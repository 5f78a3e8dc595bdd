"""Findings survive a restart, are bounded, and a damaged file is no error of the API."""

import gzip
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.inference.pipelines import PLAIN

from slicewise.config.compose import compose
from slicewise.core.disk import MIB
from slicewise.inference.pipeline import Pipeline
from slicewise.serving.api.app import create_app

Start = Callable[..., TestClient]
LAYERS = ("plain", "overlay", "gradcam")


@pytest.fixture
def start(checkpoint_path: Path, tmp_path: Path) -> Start:
    """Return a function that starts the API on a folder of results."""

    def make(**settings: Any) -> TestClient:
        inference = PLAIN._asdict() | settings.pop("inference", {})
        pipeline = Pipeline.load(checkpoint_path, device="cpu", **inference)
        app = create_app(
            pipeline,
            compose([]).serving.model_copy(update=settings),
            cases_dir=tmp_path / "none",
            results_dir=tmp_path / "results",
            num_threads=1,
        )
        return TestClient(app, base_url="http://127.0.0.1")

    return make


def predict(client: TestClient, path: Path) -> Any:
    field = "flair" if path.suffix == ".gz" else "file"
    response = client.post("/predict", files={field: (path.name, path.read_bytes())})
    assert response.status_code == 200, response.text
    client.app.state.service.results.flush()  # type: ignore[attr-defined]
    return response.json()


def everything(client: TestClient, answer: Any) -> dict[str, bytes]:
    root = f"/results/{answer['id']}"
    addresses = [root, answer["mask_url"], answer["probability_url"], *answer["image_urls"].values()]
    addresses += [f"{root}/slices/0.png?layer={layer}" for layer in LAYERS]
    responses = {address: client.get(address) for address in addresses}
    assert {response.status_code for response in responses.values()} == {200}
    return {address: response.content for address, response in responses.items()}


@pytest.mark.parametrize("kind", ["volume_path", "picture_path"])
def test_a_finding_is_the_same_after_a_restart(
    kind: str, start: Start, request: pytest.FixtureRequest
) -> None:
    client = start()
    answer = predict(client, request.getfixturevalue(kind))
    before = everything(client, answer)
    assert client.get(f"/results/{answer['id']}").json() == answer
    assert everything(start(), answer) == before


def test_images_and_maps_lie_on_the_grid_of_the_upload(
    start: Start, volume_path: Path, tmp_path: Path
) -> None:
    client = start()
    answer = predict(client, volume_path)
    image = nib.load(volume_path)
    assert answer["image_urls"].keys() == {"flair"}
    parts = {}
    for name, address in {"image": answer["image_urls"]["flair"], "map": answer["probability_url"]}.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(client.get(address).content)
        parts[name] = nib.load(tmp_path / f"{name}.nii.gz")
        np.testing.assert_allclose(parts[name].affine, image.affine)
    np.testing.assert_array_equal(parts["image"].get_fdata(), image.get_fdata())
    assert parts["image"].get_data_dtype() == np.int16
    assert parts["map"].get_data_dtype() == np.uint8
    probabilities = parts["map"].get_fdata()
    assert 0 <= probabilities.min() < probabilities.max() <= 1
    (tmp_path / "mask.nii.gz").write_bytes(client.get(answer["mask_url"]).content)
    mask = nib.load(tmp_path / "mask.nii.gz").get_fdata()
    clear = np.abs(probabilities - answer["mask_threshold"]) > 1 / 255
    np.testing.assert_array_equal((probabilities >= answer["mask_threshold"])[clear], (mask > 0)[clear])


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_other_intensities_become_small_integers_with_a_slope(
    dtype: Any, start: Start, volume_path: Path, tmp_path: Path
) -> None:
    image = nib.load(volume_path)
    values = np.asarray(image.dataobj).astype(dtype) * dtype(77 if dtype == np.uint16 else 0.37)
    nib.Nifti1Image(values, image.affine).to_filename(tmp_path / "other.nii.gz")
    client = start()
    answer = predict(client, tmp_path / "other.nii.gz")
    (tmp_path / "seen.nii.gz").write_bytes(client.get(answer["image_urls"]["flair"]).content)
    seen = nib.load(tmp_path / "seen.nii.gz")
    assert seen.get_data_dtype() == np.int16
    np.testing.assert_allclose(seen.get_fdata(), values, atol=np.ptp(values) / 60_000)


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_inside(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def damage_text(path: Path) -> None:
    path.write_bytes(gzip.compress(b"no finding"))


@pytest.mark.parametrize("damage", [damage_cut, damage_inside, damage_text])
def test_a_damaged_file_is_dropped_with_a_line_in_the_log(
    damage: Callable[[Path], None],
    start: Start,
    volume_path: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = predict(start(), volume_path)
    (path,) = (tmp_path / "results").iterdir()
    damage(path)
    with caplog.at_level(logging.WARNING):
        response = start().get(answer["mask_url"])
    assert response.status_code == 404
    assert "was damaged" in response.json()["detail"]
    assert f"{path} is damaged and was deleted" in caplog.text
    assert not path.exists()


def test_a_finding_of_other_settings_is_not_shown_as_one_of_these(start: Start, volume_path: Path) -> None:
    answer = predict(start(), volume_path)
    response = start(inference={"flips": True}).get(answer["mask_url"])
    assert response.status_code == 404
    assert "another model" in response.json()["detail"]


def test_what_was_looked_at_lately_is_not_pushed_out_first(
    start: Start, picture_path: Path, tmp_path: Path
) -> None:
    client = start(max_results=3)
    first, second, third = (predict(client, picture_path)["id"] for _ in range(3))
    assert client.get(f"/results/{first}").status_code == 200
    fourth = predict(client, picture_path)["id"]
    stored = {path.stem for path in (tmp_path / "results").iterdir()}
    assert stored == {first, third, fourth}
    after = start(max_results=2)  # the times of the files say the order
    assert [after.get(f"/results/{key}").status_code for key in (first, second, third, fourth)] == [
        *(200, 404, 404, 200)
    ]


def test_results_are_bounded_in_size_and_age(start: Start, picture_path: Path, tmp_path: Path) -> None:
    answer = predict(start(), picture_path)
    (path,) = (tmp_path / "results").iterdir()
    assert path.stat().st_size < MIB
    assert path.parent.stat().st_mode & 0o077 == 0
    past = time.time() - 2 * 3600
    os.utime(path, (past, past))
    client = start(results_hours=1.0)
    assert client.get(f"/results/{answer['id']}").status_code == 404
    assert not path.exists()


def test_without_room_on_disk_the_results_are_in_memory_alone(
    start: Start, picture_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "results").write_text("a file in the place of the folder")
    with caplog.at_level(logging.WARNING):
        client = start()
    assert "results are in memory only" in caplog.text
    answer = predict(client, picture_path)
    assert client.get(f"/results/{answer['id']}").json() == answer


def test_no_folder_is_made_where_no_space_is_given(start: Start, picture_path: Path, tmp_path: Path) -> None:
    client = start(results_mib=0)
    answer = predict(client, picture_path)
    assert client.get(answer["mask_url"]).status_code == 200
    assert not (tmp_path / "results").exists()
