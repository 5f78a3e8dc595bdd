"""The files that run SliceWise elsewhere: no engine or cluster is here, so linters and schemas read them."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from tests.conftest import ROOT

from slicewise.serving import API_HEALTH

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COPIES = [
    line.split()[1:-1]
    for line in DOCKERFILE.splitlines()
    if line.startswith("COPY ") and "--from" not in line
]
HADOLINT = Path(sys.executable).with_name("hadolint")


def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint has no wheel for this platform")
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = subprocess.run([HADOLINT, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_image_runs_as_a_user_with_hashed_packages_and_a_health_check() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", DOCKERFILE, re.MULTILINE)
    assert {name for _, name in stages} >= {"cpu", "cuda"}
    # A host has a dot or a port, or is localhost: the engine's own registry is configured there.
    assert not any("." in image.split("/")[0].split(":")[0] or "/" in image for image, _ in stages)
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert "pip install --require-hashes -r requirements/serving.lock" in DOCKERFILE
    assert f"http://127.0.0.1:8601{API_HEALTH}" in DOCKERFILE
    assert "index-url" not in DOCKERFILE


def test_what_the_image_copies_suffices(tmp_path: Path) -> None:
    """The steps of the Dockerfile in a bare folder; the packages are those of this environment."""
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for words in COPIES:
        for source in words:
            assert f"!{source}" in allowed, f".dockerignore keeps {source} away"
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            copy(ROOT / source, tmp_path / source)
    command = (sys.executable, "-m", "slicewise", "config", "serving.host=0.0.0.0")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    (tmp_path / "workspace").mkdir()
    done = subprocess.run(
        command, cwd=tmp_path / "workspace", env=environment, capture_output=True, text=True, check=True
    )
    assert "host: 0.0.0.0" in done.stdout


def test_compose_follows_its_schema_and_publishes_on_this_machine_alone() -> None:
    content = yaml.safe_load((ROOT / "compose.yaml").read_text())
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(content, json.loads(schema.read_text(encoding="utf-8")))
    stages = set(re.findall(r" AS (\w+)$", DOCKERFILE, re.MULTILINE))
    for service in content["services"].values():
        assert service["build"]["target"] in stages
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["volumes"] == ["workspace:/workspace"]


def test_the_manifests_follow_the_schemas_of_kubernetes() -> None:
    found = manifests()
    assert set(found) == {"PersistentVolumeClaim", "Deployment", "Service"}
    for document in found.values():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_pod_is_probed_limited_and_not_root() -> None:
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}:" in DOCKERFILE
    assert container["livenessProbe"]["httpGet"]["path"] == API_HEALTH
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"][:1]]
    assert claims == [found["PersistentVolumeClaim"]["metadata"]["name"]]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"] == labels


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "slicewise.service").read_text()
    start = re.search(r"^ExecStart=(\S+) serve$", text, re.MULTILINE)
    assert start
    assert "Restart=on-failure" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    # It looks for the program and the user, which are not on this machine.
    unit = tmp_path / "slicewise.service"
    unit.write_text(text.replace(start[1], "/bin/true").replace("User=slicewise", "User=root"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
