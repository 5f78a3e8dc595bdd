import json
from pathlib import Path

import pytest

from slicewise.core.errors import DownloadError
from slicewise.data.download.kaggle import Credentials, find_credentials


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kaggle").mkdir()
    return tmp_path


def write_key(folder: Path, username: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": username, "key": "k"}))


def test_nothing_set_is_anonymous() -> None:
    assert find_credentials().anonymous


def test_the_order_is_kaggles_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(home / ".kaggle", "file")
    assert find_credentials().username == "file"
    monkeypatch.setenv("KAGGLE_USERNAME", "environment")
    monkeypatch.setenv("KAGGLE_KEY", "k")
    assert find_credentials().username == "environment"
    (home / ".kaggle" / "access_token").write_text("from-file\n")
    assert find_credentials() == Credentials(token="from-file")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "from-environment")
    assert find_credentials() == Credentials(token="from-environment")


def test_a_token_may_stand_in_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "token.txt").write_text(" abc \n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(home / "token.txt"))
    assert find_credentials().token == "abc"


@pytest.mark.parametrize("variable", ["KAGGLE_CONFIG_DIR", "XDG_CONFIG_HOME"])
def test_other_folders_are_searched(variable: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    write_key(home / "elsewhere" / ("" if variable == "KAGGLE_CONFIG_DIR" else "kaggle"), "someone")
    assert find_credentials().username == "someone"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"username": "x"}', '"text"'])
def test_a_damaged_key_file_is_named(text: str, home: Path) -> None:
    (home / ".kaggle" / "kaggle.json").write_text(text)
    with pytest.raises(DownloadError, match=r"kaggle\.json is not the kaggle\.json") as caught:
        find_credentials()
    assert caught.value.__cause__ is None


def test_no_secret_shows_in_a_repr() -> None:
    assert "secret" not in repr(Credentials(token="secret", username="secret", key="secret"))
