import json
from pathlib import Path

import pytest

from slicewise.core.redact import contains_secret, redact

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / ".kaggle").mkdir()
    return tmp_path


@pytest.mark.parametrize("variable", ["KAGGLE_KEY", "KAGGLE_API_TOKEN"])
def test_what_the_environment_holds_is_hidden(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, KEY)
    assert redact(f"sent {KEY} off") == "sent [hidden] off"


def test_what_kaggle_s_files_hold_is_hidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "someone", "key": KEY}))
    (home / ".kaggle" / "access_token").write_text("token-of-a-file\n")
    (home / "named").write_text("token-of-a-named-file")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "named"))
    text = f"someone {KEY} token-of-a-file token-of-a-named-file {home / 'named'}"
    assert redact(text) == f"someone [hidden] [hidden] [hidden] {home / 'named'}"
    (home / ".kaggle" / "kaggle.json").write_text(json.dumps({"username": "x", "key": "f" * 20}))
    assert redact("f" * 20) == "[hidden]"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://someone:secret@host/a", "https://[hidden]@host/a"),
        ("https://token@host/a", "https://[hidden]@host/a"),
        ("GET /a?x=1&X-Goog-Signature=abc&y=2", "GET /a?x=1&X-Goog-Signature=[hidden]&y=2"),
        ("+kaggle.key=abc other", "+kaggle.key=[hidden] other"),
        ("{'api_token': 'abc'}", "{'api_token': '[hidden]'}"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer [hidden]"),
        ("KGAT_abc-def", "[hidden]"),
    ],
)
def test_a_credential_is_known_by_its_place(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert contains_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://www.kaggle.com/datasets/a/b",
        "export KAGGLE_API_TOKEN=<the token>",
        "data.sources.volumes.kaggle=owner/brains",
        "key=value",
        "no such key: model.encodr",
        "mail me@host",
        "a fingerprint " + "0" * 64,
    ],
)
def test_innocent_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text
