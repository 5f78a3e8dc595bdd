from pathlib import Path

import pytest

from slicewise.cli.main import main


def test_nothing_to_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "there are no outputs here yet\n"
    assert not list(tmp_path.iterdir())
