"""The record tells the truth, a failure loses nothing, questions are asked only where they should be."""

import json
import mmap
import time
from pathlib import Path
from typing import Any

import pytest
from tests.engine.conftest import Toy

from slicewise.core.errors import DataError, WorkspaceError
from slicewise.engine.clean import clean
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.engine.workspace import StoredStep, Workspace

JOIN = StoredStep("join", {"out": "homes/join", "more": "homes/more"})


def record(toy: Toy) -> Any:
    return json.loads((toy.root / "pipeline_results.json").read_text())


def test_the_record_is_complete(toy: Toy) -> None:
    toy.run()
    result = record(toy)
    assert result["success"] is True
    assert result["status"] == "completed"
    assert result["ended_at"] >= result["started_at"]
    step = result["steps"]["join"]
    assert step["status"] == "completed"
    assert step["reason"] == "no output yet"
    assert step["metrics"] == {"length": 4}
    assert step["notes"] == ["a note"]
    assert step["duration_seconds"] >= 0
    assert step["peak_memory_mib"] > 0
    assert [item["path"] for item in step["artifacts"]] == ["homes/join/text", "homes/more/text"]


def test_reused_steps_keep_the_metrics_of_the_run_that_made_them(toy: Toy) -> None:
    toy.run()
    first = record(toy)["steps"]["join"]
    toy.run()
    again = record(toy)["steps"]["join"]
    assert again["status"] == "reused"
    assert again["reason"] == "unchanged"
    assert again["made_in_seconds"] == first["duration_seconds"] == first["made_in_seconds"]
    assert {k: again[k] for k in ("metrics", "artifacts", "made_at")} == {
        k: first[k] for k in ("metrics", "artifacts", "made_at")
    }


@pytest.mark.parametrize(("size", "times"), [(200 << 20, 1), (1 << 10, 0)])
def test_memory_is_given_back_after_a_step_that_took_some(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, size: int, times: int
) -> None:
    given: list[None] = []

    def write(path: Path, text: str) -> None:
        with mmap.mmap(-1, size) as taken:  # pages of its own, whatever the allocator has kept
            for page in range(0, size, mmap.PAGESIZE):
                taken[page] = 1
            time.sleep(0.3)  # for the watch to look
        path.write_text(text)

    monkeypatch.setattr("tests.engine.conftest.write_text", write)
    monkeypatch.setattr("slicewise.engine.runner.trim_memory", lambda: given.append(None))
    toy.run()
    assert len(given) >= times
    assert times or not given


def test_a_failure_is_recorded_and_finished_steps_are_kept(toy: Toy) -> None:
    toy.break_in = DataError("file x is empty")
    with pytest.raises(DataError):
        toy.run()
    result = record(toy)
    assert result["success"] is False
    assert result["status"] == "failed"
    assert result["error"] == {"step": "join", "type": "DataError", "message": "file x is empty"}
    assert [step["status"] for step in result["steps"].values()] == ["completed", "failed", "pending"]
    assert not (toy.root / "homes" / "join").exists()
    toy.break_in = None
    assert toy.run() == ["join", "count"]


def test_an_interrupt_is_called_by_its_name(toy: Toy) -> None:
    toy.break_in = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        toy.run()
    assert record(toy)["status"] == "interrupted"


def test_partial_work_is_handed_to_the_next_attempt(toy: Toy) -> None:
    toy.break_in = RuntimeError("cut off")
    with pytest.raises(RuntimeError):
        toy.run()
    partial = next((toy.root / ".slicewise" / "partial" / "join").iterdir())
    assert (partial / "out" / "text").read_text() == "abc-"
    (partial / "out" / "progress").write_text("half")
    toy.break_in = None
    toy.run()
    assert (toy.root / "homes" / "join" / "progress").read_text() == "half"


@pytest.mark.parametrize("weather", ["", "!"])
def test_partial_work_is_continued_only_on_what_it_was_begun_with(toy: Toy, weather: str) -> None:
    """The fingerprint tells no difference where a needed step is made again with other content."""
    toy.break_in = RuntimeError("cut off")
    with pytest.raises(RuntimeError):
        toy.run()
    partial = next((toy.root / ".slicewise" / "partial" / "join").iterdir())
    (partial / "out" / "progress").write_text("half")
    toy.break_in, toy.weather = None, weather
    assert toy.run(force=["gather"]) == ["gather", "join", "count"]
    assert (toy.root / "homes" / "join" / "progress").exists() == (weather == "")
    assert not list(toy.root.rglob(".made-from*"))


@pytest.mark.parametrize("note", [None, "{", "[1]", "5"])
def test_partial_work_that_does_not_say_what_it_was_begun_with_is_begun_again(
    toy: Toy, note: str | None
) -> None:
    toy.break_in = RuntimeError("cut off")
    with pytest.raises(RuntimeError):
        toy.run()
    partial = next((toy.root / ".slicewise" / "partial" / "join").iterdir())
    (partial / "out" / "progress").write_text("half")
    path = partial / ".made-from.json"
    path.unlink() if note is None else path.write_text(note)
    toy.break_in = None
    toy.run()
    assert not (toy.root / "homes" / "join" / "progress").exists()


def test_force_starts_afresh(toy: Toy) -> None:
    toy.break_in = RuntimeError("cut off")
    with pytest.raises(RuntimeError):
        toy.run()
    partial = next((toy.root / ".slicewise" / "partial" / "join").iterdir())
    (partial / "out" / "progress").write_text("half")
    toy.break_in = None
    toy.run(force=["join"])
    assert not (toy.root / "homes" / "join" / "progress").exists()


def test_a_forced_step_that_was_stopped_goes_on_when_it_is_forced_again(toy: Toy) -> None:
    toy.run()
    toy.break_in = RuntimeError("cut off")
    with pytest.raises(RuntimeError):
        toy.run(force=["join"])
    partial = next((toy.root / ".slicewise" / "partial" / "join").iterdir())
    (partial / "out" / "progress").write_text("half")
    toy.break_in = None
    assert toy.run(force=["join"]) == ["join"]
    progress = toy.root / "homes" / "join" / "progress"
    assert progress.read_text() == "half"
    toy.run(force=["join"])
    assert not progress.exists()
    assert not list(toy.root.rglob(".begun-afresh"))


def test_a_kill_while_a_forced_output_takes_the_place_of_the_old_one_loses_no_work(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run()
    set_aside = Workspace._set_aside

    def killed(*args: Any) -> list[Path]:
        set_aside(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "_set_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        toy.run(force=["join"])
    partial = next((toy.root / ".slicewise" / "partial" / "join").iterdir())
    (partial / "out" / "progress").write_text("all of it")
    monkeypatch.setattr(Workspace, "_set_aside", set_aside)
    assert toy.run(force=["join"]) == ["join"]
    assert (toy.root / "homes" / "join" / "progress").read_text() == "all of it"


@pytest.fixture
def gathered(toy: Toy, tmp_path: Path) -> Toy:
    """A run whose first step asks before it runs again, and whose input has changed since."""
    folder = tmp_path / "given"
    folder.mkdir()
    toy.config |= {"ask": True, "folder": folder}
    toy.run()
    assert toy.asked == []
    (folder / "new.txt").touch()
    return toy


@pytest.mark.parametrize("answer", [False, True])
def test_a_question_is_asked_where_there_is_something_to_keep(gathered: Toy, answer: bool) -> None:
    gathered.answer = answer
    assert ("gather" in gathered.run()) == answer
    assert gathered.asked == ["gather again?"]
    entry = record(gathered)["steps"]["gather"]
    assert entry["status"] == ("completed" if answer else "skipped")
    assert answer or entry["reason"].startswith("kept on request; a run would make it again: ")


@pytest.mark.parametrize("why", ["forced", "other settings", "damaged", "missing"])
def test_nothing_is_asked_where_no_would_be_no_answer(gathered: Toy, why: str) -> None:
    home = gathered.root / "homes" / "gather"
    if why == "other settings":
        gathered.config["letters"] = "new"
    if why == "damaged":
        (home / "text").write_text("longer than it was")
    if why == "missing":
        (home / "text").unlink()
    assert "gather" in gathered.run(force=["gather"] if why == "forced" else [])
    assert gathered.asked == []


def test_a_file_the_user_put_into_a_home_is_moved_aside_not_lost(toy: Toy) -> None:
    home = toy.root / "homes" / "gather"
    home.mkdir(parents=True)
    (home / "mine").write_text("precious")
    toy.run()
    clean(toy.workspace, toy.steps(), unfinished=True)
    toy.workspace.sweep()
    kept = list((toy.root / ".slicewise" / "foreign").rglob("mine"))
    assert [path.read_text() for path in kept] == ["precious"]


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_kill_between_the_renames_of_one_output_is_mended_by_the_next_run(toy: Toy, moved: int) -> None:
    toy.run()
    toy.config["glue"] = "+"
    toy.run()
    workspace = toy.workspace
    receipt = workspace.home_receipt(JOIN)
    assert receipt is not None
    shelf = workspace.shelf("join", receipt.fingerprint)
    shelf.mkdir(parents=True, exist_ok=True)
    for slot, home in list(JOIN.homes.items())[moved:]:
        workspace.home(home).rename(shelf / slot)
    assert toy.run() == []
    assert (toy.text("join"), toy.text("more")) == ("abc+", "abc+")


def test_shared_files_are_verified_with_the_output(tmp_path: Path) -> None:
    toy = Toy(tmp_path, {"letters": "abc", "glue": "-", "unit": "x", "folder": None})
    toy.run()
    home = tmp_path / "homes" / "join"
    receipt = Receipt.read(home)
    assert receipt is not None
    found = toy.workspace.find(JOIN, receipt.fingerprint)
    assert found is not None
    assert list(toy.workspace.faults(found)) == []


def test_a_tampered_receipt_is_no_receipt(toy: Toy) -> None:
    toy.run()
    path = toy.root / "homes" / "gather" / RECEIPT_NAME
    path.write_text(path.read_text().replace('"letters": "abc"', '"letters": "abd"'))
    assert Receipt.read(path.parent) is None
    assert toy.actions() == "run check check"


def test_a_vanished_output_is_an_error_not_a_success(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "find", lambda *_: None)
    with pytest.raises(WorkspaceError, match="vanished"):
        toy.run()
    assert record(toy)["success"] is False
