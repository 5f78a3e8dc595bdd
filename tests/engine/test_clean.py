"""What is superseded goes; what a stop or a kill left on its way home stays."""

from pathlib import Path

import pytest
from tests.engine.conftest import Toy

from slicewise.engine.clean import CleanResult, clean
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import StoredStep


def cleaned(toy: Toy, *, unfinished: bool = False) -> CleanResult:
    return clean(toy.workspace, toy.steps(), unfinished=unfinished)


def left(toy: Toy) -> list[str]:
    """Return the outputs on the shelf and the unfinished work."""
    state = toy.root / ".slicewise"
    folders = [path for path in sorted(state.glob("[sp]*/*/*")) if any(path.iterdir())]
    return [path.relative_to(state).parent.as_posix() for path in folders]


@pytest.fixture
def stopped(toy: Toy) -> Toy:
    """A run that was stopped at `join`."""
    toy.break_in = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        toy.run()
    toy.break_in = None
    return toy


def put_back(toy: Toy, *slots: str) -> None:
    """Undo the renames that brought an output of `join` home, as if a kill had come before them."""
    join = StoredStep("join", {"out": "homes/join", "more": "homes/more"})
    receipt = toy.workspace.home_receipt(join)
    assert receipt is not None
    shelf = toy.workspace.shelf("join", receipt.fingerprint)
    shelf.mkdir(parents=True, exist_ok=True)
    for slot in slots:
        toy.workspace.home(join.homes[slot]).rename(shelf / slot)


def test_what_is_superseded_goes_and_what_is_at_home_stays(toy: Toy) -> None:
    toy.run()
    toy.config["letters"] = "longer"
    toy.run()
    (toy.root / ".slicewise" / "trash" / "1").mkdir(parents=True)
    assert left(toy) == ["shelf/count", "shelf/gather", "shelf/join"]
    found = cleaned(toy)
    assert found.freed_bytes > 0
    assert (found.unfinished, found.waiting, left(toy)) == ({}, (), [])
    assert not (toy.root / ".slicewise" / "trash").exists()
    assert toy.run() == []


def test_unfinished_work_stays_unless_it_is_asked_for(stopped: Toy) -> None:
    found = cleaned(stopped)
    assert found.unfinished.keys() == {"join"}
    assert found.unfinished["join"] > 0
    assert left(stopped) == ["partial/join"]
    assert cleaned(stopped, unfinished=True).freed_bytes == found.unfinished["join"]
    assert left(stopped) == []


def test_what_an_attempt_wrote_that_was_given_up_is_no_unfinished_work(toy: Toy) -> None:
    toy.run()
    receipt = Receipt.read(toy.root / "homes/join")
    assert receipt is not None
    stray = toy.workspace.partial("join", receipt.fingerprint).with_suffix(".1")
    stray.mkdir(parents=True)
    (stray / "text").write_text("late")
    assert not cleaned(toy).unfinished
    assert not stray.exists()


def test_unfinished_work_for_other_settings_than_those_at_home_stays(toy: Toy) -> None:
    toy.run()
    toy.config["glue"], toy.break_in = "+", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        toy.run()
    cleaned(toy)
    assert left(toy) == ["partial/join"]


def test_what_was_begun_again_although_it_is_there_goes(toy: Toy) -> None:
    toy.run()
    toy.break_in = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        toy.run(force=["join"])
    assert left(toy) == ["partial/join"]
    assert cleaned(toy).unfinished == {}
    assert left(toy) == []


def test_work_of_steps_that_are_no_more_goes(stopped: Toy) -> None:
    clean(stopped.workspace, stopped.steps()[:1])
    assert left(stopped) == []


@pytest.mark.parametrize("slots", [("out", "more"), ("more",)])
def test_a_finished_output_that_a_kill_left_on_the_shelf_stays(toy: Toy, slots: tuple[str, ...]) -> None:
    toy.run()
    put_back(toy, *slots)
    (toy.root / "pipeline_results.json").unlink()
    assert cleaned(toy).waiting == ("join",)
    assert toy.run() == []
    assert (toy.text("join"), toy.text("more")) == ("abc-", "abc-")


@pytest.mark.parametrize("slots", [("out", "more"), ("more",)])
def test_it_stays_also_while_an_older_output_is_at_home(toy: Toy, slots: tuple[str, ...]) -> None:
    toy.run()
    toy.config["glue"] = "+"
    toy.run()
    (older,) = (path.parent for path in (toy.root / ".slicewise" / "shelf" / "join").glob("*/out"))
    put_back(toy, *slots)
    for slot, home in (("out", "join"), ("more", "more")):
        if slot in slots:
            (older / slot).rename(toy.root / "homes" / home)
    assert cleaned(toy).waiting == ("join",)
    assert toy.run() == []
    assert (toy.text("join"), toy.text("more")) == ("abc+", "abc+")


@pytest.mark.parametrize("text", ["{", "[]", '{"steps": 5}', '{"steps": {"join": 5}}'])
def test_a_damaged_record_stops_nothing(toy: Toy, text: str, tmp_path: Path) -> None:
    toy.run()
    toy.config["glue"] = "+"
    toy.run()
    (toy.root / "pipeline_results.json").write_text(text)
    assert cleaned(toy).waiting == ()
    assert left(toy) == []
