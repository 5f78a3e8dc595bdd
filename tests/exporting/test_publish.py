"""Publication to a server of this machine that speaks the Hub's protocol."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from slicewise.cli.main import main
from slicewise.core.errors import PublishError, UsageError
from slicewise.exporting.publish import plan_upload, push

CARD = "---\nlicense: mit\n---\n\n# A model\n"


class Hub(ThreadingHTTPServer):
    """Keeps repositories in memory; knows one token, and one user who may write."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def api(self, token: str = "hf_right") -> HfApi:
        return HfApi(endpoint=self.address, token=token)


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["authorization"] != "Bearer hf_right":
            return self.answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        *_, user, name, verb, _ = self.path.split("/")
        if verb == "preupload":
            files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for each in json.loads(body)["files"]]  # fmt: skip
            return self.answer(200, {"files": files})
        return self.commit(f"{user}/{name}", [json.loads(line) for line in body.splitlines()])

    def do_GET(self) -> None:
        name = "/".join(self.path.split("/")[3:5])
        known = name in self.server.repositories
        self.answer(200 if known else 404, {"id": name, "sha": "0" * 40, "siblings": [], "private": False})

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if not name.startswith("me/"):
            return self.answer(403, {"error": "You don't have the rights to create a model there"})
        self.server.repositories.setdefault(name, {})
        self.server.private[name] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return self.answer(200, {"url": f"{self.server.address}/{name}", "name": name})

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.commits.append(value["summary"])
            else:
                self.server.repositories[name][value["path"]] = base64.b64decode(value["content"])
        address = f"{self.server.address}/{name}/commit/{'0' * 40}"
        self.answer(200, {"commitUrl": address, "commitOid": "0" * 40})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tumours"
    (folder / "models").mkdir(parents=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "models" / "model.safetensors").write_bytes(b"w" * 3000)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "token").write_text("hf_secret", encoding="utf-8")
    return folder


def test_a_folder_is_pushed_in_one_commit(folder: Path, hub: Hub) -> None:
    address = push(plan_upload(folder, "me/tumours"), private=True, message="First", api=hub.api())
    assert address == f"{hub.address}/me/tumours"
    stored = {name: (folder / name).read_bytes() for name in ("README.md", "models/model.safetensors")}
    assert hub.repositories == {"me/tumours": stored}
    assert hub.private == {"me/tumours": True}
    assert hub.commits == ["First"]


def test_a_refusal_says_why_and_shows_no_token(folder: Path, hub: Hub) -> None:
    with pytest.raises(PublishError, match="token is invalid") as caught:
        push(plan_upload(folder, "me/tumours"), api=hub.api("hf_wrongwrongwrong"))
    assert "hf_wrong" not in str(caught.value)
    with pytest.raises(PublishError, match="may not write there"):
        push(plan_upload(folder, "others/tumours"), api=hub.api())
    assert hub.commits == []
    api = HfApi(endpoint="http://127.0.0.1:9", token="hf_right")
    with pytest.raises(PublishError, match="cannot be reached"):
        push(plan_upload(folder, "me/tumours"), api=api)


def test_a_dry_run_lists_files_and_sizes_and_needs_no_token(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slicewise.exporting.publish.get_token", lambda: None)
    assert main(["publish", str(folder), "--to", "me/tumours", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "https://huggingface.co/me/tumours (public)" in shown
    assert "2.9 KiB  models/model.safetensors" in shown
    assert "in 2 files" in shown
    assert ".cache" not in shown
    assert main(["publish", str(folder), "--to", "me/tumours"]) == 2
    assert "set HF_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("scan.nii.gz", "patient data"), ("best_model.pth", "can run code"), (None, "model card")],
)
def test_files_that_do_not_belong_to_a_publication_are_refused(
    folder: Path, name: str | None, message: str
) -> None:
    if name is None:
        (folder / "README.md").write_text("# No front matter\n", encoding="utf-8")
    else:
        (folder / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=message):
        plan_upload(folder, "me/tumours")


@pytest.mark.parametrize("target", ["tumours", "me/../x", "https://huggingface.co/me/x", "me/"])
def test_a_target_that_is_no_repository_is_refused(folder: Path, target: str) -> None:
    with pytest.raises(UsageError, match="user/name"):
        plan_upload(folder, target)
