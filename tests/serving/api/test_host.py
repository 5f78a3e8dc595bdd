"""Which host names the API takes requests under."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from slicewise.config.compose import compose
from slicewise.core.errors import UsageError
from slicewise.inference.pipeline import Pipeline
from slicewise.serving.api.access import read_api_key
from slicewise.serving.api.app import create_app

KEY = "0123456789abcdef"


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 400), ("127.0.0.2", 400), ("0.0.0.0", 200)])
def test_only_an_api_for_other_machines_takes_requests_under_any_name(
    host: str, status: int, checkpoint_path: Path, tmp_path: Path
) -> None:
    config = compose(["runtime.device=cpu", f"serving.host={host}"])
    pipeline = Pipeline.load(checkpoint_path, device="cpu", settings=config.evaluation)
    app = create_app(pipeline, config.serving, cases_dir=tmp_path, num_threads=1, api_key=KEY)
    with TestClient(app, base_url="http://elsewhere.org", headers={"X-API-Key": KEY}) as client:
        assert client.get("/model/info").status_code == status
        own = client.get("/model/info", headers={"Host": f"{config.serving.own_host}:8601"})
        assert own.status_code == 200


def test_without_a_key_other_machines_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLICEWISE_API_KEY_FILE", raising=False)
    assert read_api_key(None, "127.0.0.2") is None
    with pytest.raises(UsageError, match=r"serving\.host=0\.0\.0\.0 lets other machines .*--api-key-file"):
        read_api_key(None, "0.0.0.0")
    (tmp_path / "api.key").write_text(KEY)
    monkeypatch.setenv("SLICEWISE_API_KEY_FILE", str(tmp_path / "api.key"))
    assert read_api_key(None, "0.0.0.0") == KEY
