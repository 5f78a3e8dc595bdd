"""Where the files of the configuration are looked for."""

from pathlib import Path

import pytest

from slicewise.config import folders
from slicewise.core.errors import ConfigError


def test_where_none_are_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"no config\.yaml in {tmp_path}; .* set SLICEWISE_CONFIGS"):
        folders.find_configs_dir()
    monkeypatch.setattr(folders, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"bundle\.json, or pip install 'slicewise\[pipeline\]'"):
        folders.find_configs_dir()
