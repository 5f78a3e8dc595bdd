"""The OpenAPI document: complete, with valid examples; and the API does what it says (schemathesis)."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.inference.pipelines import PLAIN

from slicewise.config.compose import compose
from slicewise.inference.pipeline import Pipeline
from slicewise.serving.api.app import create_app
from slicewise.serving.api.examples import EXAMPLES
from slicewise.serving.api.problems import PROBLEM_JSON

NO_PICTURES = positive_data_acceptance
"""A schema cannot say what bytes are a picture, so most of what it allows as a file is refused."""
QUIET = settings(
    max_examples=8,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def app(checkpoint_path: Path, cases_dir: Path) -> FastAPI:
    pipeline = Pipeline.load(checkpoint_path, device="cpu", **PLAIN._asdict())
    serving = compose([]).serving.model_copy(update={"max_upload_mib": 1})
    return create_app(pipeline, serving, cases_dir=cases_dir, num_threads=1)


@pytest.fixture
def document(app: FastAPI) -> Any:
    return app.openapi()


def operations(document: Any) -> Iterator[tuple[str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_has_valid_examples_of_its_request_and_responses(document: Any) -> None:
    names = {name for name, _ in operations(document)}
    assert names == EXAMPLES.keys()
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert "example" in parameter or not parameter.get("required"), (name, parameter["name"])
        for media in operation.get("requestBody", {}).get("content", {}).values():
            assert media["example"], name
        for status, response in operation["responses"].items():
            for kind, media in response["content"].items():
                assert "example" in media, (name, status, kind)
                if "json" in kind:
                    schema = {**media["schema"], "components": document["components"]}
                    Draft202012Validator(schema).validate(media["example"])


def test_every_error_is_a_problem_document(document: Any) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status != "200":
                assert [*response["content"]] == [PROBLEM_JSON], name
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_references_lead_somewhere(document: Any) -> None:
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert names <= document["components"]["schemas"].keys()
    assert "$defs" not in str(document)


def test_an_api_key_is_in_the_document_and_in_the_curl_lines(checkpoint_path: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.load(checkpoint_path, device="cpu")
    secured = create_app(pipeline, compose([]).serving, cases_dir=tmp_path, api_key="k" * 16).openapi()
    assert secured["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    for name, operation in operations(secured):
        is_open = name in ("GET /healthz", "GET /readyz", "GET /metrics")
        assert ("401" in operation["responses"]) != is_open
        assert ("$KEY" in operation["x-codeSamples"][0]["source"]) != is_open


def test_the_page_shows_what_is_inside_a_field_and_a_curl_line(app: FastAPI, document: Any) -> None:
    page = TestClient(app, base_url="http://127.0.0.1").get("/docs").text
    for nested in ("mask_threshold", "by_class", "reference_voxels", "tumour_mm2", "position"):
        assert f"<code>{nested}</code>" in page
    for name, operation in operations(document):
        line = operation["x-codeSamples"][0]["source"]
        assert line.startswith("curl ")
        assert line.split("?")[0].rstrip("'").rpartition(" ")[2].strip("'") in page, name
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|/openapi)', page)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_requests_by_the_document_get_what_it_says(name: str, app: FastAPI, document: Any) -> None:
    """Schemathesis makes sound and unsound requests from the document, and checks each response with it."""
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    operation = next(each for each in operations if each.label == name)

    @QUIET
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        case.call_and_validate(base_url="http://127.0.0.1", excluded_checks=[NO_PICTURES])

    check()


def file_of(name: str, picture_path: Path, volume_path: Path) -> bytes:
    if not name.endswith(".nii.gz"):
        return picture_path.read_bytes()
    if name == "mask.nii.gz":
        image = nib.load(volume_path)
        empty = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
        return gzip.compress(empty.to_bytes())
    return volume_path.read_bytes()


def test_the_examples_are_requests_that_work(
    app: FastAPI, document: Any, picture_path: Path, volume_path: Path
) -> None:
    with TestClient(app, base_url="http://127.0.0.1") as client:
        keys = {}
        for kind, path in (("png", picture_path), ("nii.gz", volume_path)):
            sent = {"flair" if kind == "nii.gz" else "file": (path.name, path.read_bytes())}
            keys[kind] = client.post("/segment", files=sent).json()["id"]
        for name, operation in operations(document):
            method, address = name.split()
            example = EXAMPLES[name]
            if address.endswith(("truth.nii.gz", "seg.dcm")):
                continue  # of a reference and of DICOM series: see test_routes
            is_picture = address.endswith(("image.png", "mask.png", "probability.png"))
            values = {**example.path, "result": keys["png" if is_picture else "nii.gz"], "index": 3}
            query = {key: value for key, value in example.query.items() if key != "request"}
            files = [
                (field, (value[1:], file_of(value[1:], picture_path, volume_path)))
                for field, value in example.form
            ]
            response = client.request(method, address.format(**values), params=query, files=files or None)
            assert response.status_code == 200, (name, response.text)
            content = operation["responses"]["200"]["content"]
            kind = response.headers["content-type"].partition(";")[0]
            assert kind in content, name
            if kind == "application/json":
                schema = {**content[kind]["schema"], "components": document["components"]}
                Draft202012Validator(schema).validate(response.json())
