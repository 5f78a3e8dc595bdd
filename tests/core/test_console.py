import sys

import pytest

from slicewise.core.console import paint, progress, progress_bar, say


def test_no_escape_codes_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("done", "good")
    assert capsys.readouterr().out == "done\n"


def test_colour_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert paint("done", "good") != "done"
    assert "done" in paint("done", "good")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("done", "good") == "done"


def test_bars_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), desc="x")) == [0, 1, 2]
    with progress_bar(desc="x", total=2) as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")
