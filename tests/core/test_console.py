import io
import logging
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.terminal import Terminal, in_terminal

from slicewise.core import console
from slicewise.core.console import (
    paint,
    print_error,
    progress,
    progress_bar,
    say,
    standard_streams,
)
from slicewise.core.log_file import LogFile

WORK = """
import logging, sys, time, warnings
from slicewise.core.console import print_error, progress, progress_bar, say, standard_streams
with standard_streams():
    handler = logging.StreamHandler()
    logging.getLogger("library").addHandler(handler)
    for number in progress(range(4), desc="outer", unit="case"):
        say(f"line {number}", "good")
        with progress_bar(desc="inner", total=3, unit="B") as bar:
            for _ in range(3):
                time.sleep(0.11)  # longer than tqdm waits between two drawings
                bar.update()
                bar.set_postfix_str("loss 0.5")
            print_error(f"fault {number}")
            logging.getLogger("library").warning("log %d", number)
        print("half", end=" ")
        print(f"print {number}")
    warnings.warn("once")
    for number in progress([1], desc="failing"):
        time.sleep(0.11)
        try:
            raise RuntimeError
        except RuntimeError:
            break
    keep = progress([1, 2], desc="left open")
    next(keep)
say("the end")
"""
"""Lines from everywhere, among bars within bars."""


def test_no_escape_codes_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("done", "good")
    assert capsys.readouterr().out == "done\n"


def test_colour_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert paint("done", "good") != "done"
    assert "done" in paint("done", "good")
    monkeypatch.setenv("TERM", "dumb")
    assert paint("done", "good") == "done"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("done", "good") == "done"


def test_bars_are_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), desc="x")) == [0, 1, 2]
    with progress_bar(desc="x", total=2) as bar:
        bar.update(2)
    assert capsys.readouterr() == ("", "")


def test_lines_stand_whole_above_the_bars_of_a_terminal() -> None:
    code, sent = in_terminal([sys.executable, "-c", WORK])
    assert code == 0, sent
    assert "outer: " in sent, "a bar was drawn"
    assert "inner: " in sent
    assert "loss 0.5" in sent
    terminal = Terminal()
    terminal.feed(sent)
    expected = [
        text.format(number)
        for number in range(4)
        for text in ("line {}", "error: fault {}", "log {}", "half print {}")
    ]
    shown = terminal.shown
    assert shown[: len(expected)] == expected
    assert shown[-1] == "the end"
    assert "UserWarning: once" in " ".join(shown[len(expected) : -1])
    assert not [line for line in shown if "%|" in line], "no bar stays behind"


def test_what_is_there_at_any_moment_is_whole_lines_and_bars() -> None:
    _, sent = in_terminal([sys.executable, "-c", WORK])
    terminal, texts = Terminal(), ("line", "error: fault", "log", "half print")
    for piece in sent.splitlines(keepends=True):
        terminal.feed(piece)
        for line in terminal.shown:
            begins = [text for text in texts if text in line]
            assert not begins or (len(begins) == 1 and line.startswith(begins[0]) and "|" not in line), line


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


class Left(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [None, Full(), Left()], ids=["none", "full", "left"])
def test_a_stream_that_takes_nothing_raises_nothing(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_reader_gone", threading.Event())
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    say("größe", "good")
    print_error("größe")
    assert list(progress(range(3), desc="x")) == [0, 1, 2]
    assert console.is_unread() == isinstance(stream, Left)
    if stream is not None:
        with standard_streams():
            sys.stdout.write("größe\n")


def test_a_closed_stream_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    say("a", "good")
    print_error("b")
    with standard_streams(), progress_bar(desc="x", total=1) as bar:
        sys.stdout.write("c\n")
        bar.update()


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", "größe – 数据", "gr\\xf6\\xdfe - \\u6570\\u636e"),
        ("latin-1", "größe – 数据", "größe - \\u6570\\u636e"),
        ("utf-8", "größe – 数据", "größe – 数据"),
        ("utf-8", "caf\udce9.png", "caf\\udce9.png"),
    ],
)
def test_characters_that_a_stream_does_not_have_are_spelled(
    encoding: str, text: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    say(text)
    with standard_streams():
        sys.stdout.write(f"{text}\n")
    assert stream.buffer.getvalue().decode(encoding).splitlines() == [written, written]


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors by a shell")
def test_files_do_not_take_the_place_of_closed_streams(tmp_path: Path) -> None:
    """Else what a child process prints would go into whatever file was opened first."""
    code = (
        "import subprocess, sys\n"
        "from slicewise.core.console import standard_streams\n"
        "with standard_streams(), open(sys.argv[1], 'w') as file:\n"
        "    subprocess.run(['sh', '-c', 'echo child; echo child >&2'], check=True)\n"
        "    print('parent')\n"
        "    file.write(str(file.fileno() > 2))\n"
    )
    command = f'exec "{sys.executable}" -c "$1" "$2" <&- >&- 2>&-'
    path = tmp_path / "file"
    assert subprocess.run(["sh", "-c", command, "sh", code, str(path)], check=False).returncode == 0
    assert path.read_text() == "True"


def test_a_log_on_a_full_disk_warns_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, handler = logging.getLogger("tests.logfile"), LogFile(tmp_path / "run.log")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    log.addHandler(handler)
    try:
        log.error("one ü")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, limits[1]))
        log.error("two")
        log.error("three")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.removeHandler(handler)
        handler.close()
    assert (tmp_path / "run.log").read_text(encoding="utf-8").startswith("one")
    assert capsys.readouterr().out.count("ends here: File too large") == 1
