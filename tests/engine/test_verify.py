"""What verify finds, and that the finding stays with the output wherever it goes."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.conftest import Config, Toy

from slicewise.core.hashing import HashCache, digest, hash_file
from slicewise.engine.receipt import RECEIPT_NAME, SUSPECTS_NAME, Receipt
from slicewise.engine.step import Context, Outcome, Step
from slicewise.engine.verify import Verification, verify


def check(toy: Toy) -> Verification:
    workspace = toy.workspace
    hashes = workspace.load_hashes()
    found = verify(toy.steps(), workspace, hashes)
    workspace.save_hashes(hashes)
    return found


def faults(toy: Toy) -> dict[str, str]:
    return {finding.path: finding.fault for finding in check(toy).findings}


def flip_quietly(path: Path) -> None:
    stat = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_sound_workspace(toy: Toy) -> None:
    toy.run()
    found = check(toy)
    assert (found.num_files, found.findings) == (4, ())
    assert found.num_bytes == sum(path.stat().st_size for path in toy.root.glob("homes/*/text"))


def test_a_quiet_flip_is_named_with_its_step_and_nothing_is_deleted(toy: Toy) -> None:
    toy.run()
    path = toy.root / "homes" / "join" / "text"
    flip_quietly(path)
    assert toy.actions() == "reuse reuse reuse"
    (finding,) = check(toy).findings
    assert (finding.path, finding.step) == ("homes/join/text", "join")
    assert finding.fault == "was changed, its size and time stamp were not"
    assert finding.remedy == "join is made again by the next run"
    assert path.exists()
    assert toy.actions() == "reuse run check"
    assert toy.run() == ["join"]
    assert check(toy).findings == ()
    assert not list(toy.root.rglob(SUSPECTS_NAME))


def test_a_doubt_goes_to_the_shelf_with_its_output_and_comes_back_with_it(toy: Toy) -> None:
    toy.run()
    flip_quietly(toy.root / "homes" / "join" / "text")
    check(toy)
    toy.config["glue"] = "+"
    assert toy.run() == ["join", "count"]
    ((path, fault),) = faults(toy).items()
    assert path.startswith(".slicewise/shelf/join/")
    assert "was changed" in fault
    toy.config["glue"] = "-"
    assert "was changed" in toy.plan()["join"].reason
    assert toy.run() == ["join"]
    assert toy.text("join") == "abc-"


def test_damage_on_the_shelf_is_mended_when_it_is_asked_for(toy: Toy) -> None:
    toy.run()
    toy.config["glue"] = "+"
    toy.run()
    (shelved,) = (toy.root / ".slicewise" / "shelf" / "count").glob("*/out")
    (shelved / RECEIPT_NAME).write_text("{")
    (finding,) = check(toy).findings
    assert finding.path == shelved.relative_to(toy.root).as_posix() + f"/{RECEIPT_NAME}"
    assert finding.remedy == "count is made again when a run has its settings"


def test_missing_files_homes_and_receipts_are_named(toy: Toy) -> None:
    toy.run()
    homes = toy.root / "homes"
    (homes / "join" / "text").unlink()
    (homes / "more" / RECEIPT_NAME).unlink()
    (homes / "count").rename(homes / "elsewhere")
    assert faults(toy) == {
        "homes/join/text": "is missing",
        f"homes/more/{RECEIPT_NAME}": "is missing",
        "homes/count": "is missing",
    }
    assert toy.plan()["join"].reason == f"homes/more/{RECEIPT_NAME} is missing"


def test_a_foreign_output_in_a_home_is_named_and_put_aside(toy: Toy) -> None:
    toy.run()
    homes = toy.root / "homes"
    (homes / "gather").rename(homes / "aside")
    (homes / "count").rename(homes / "gather")
    assert faults(toy)["homes/gather"] == "holds an output of count"
    assert toy.plan()["gather"].reason == "its home holds an output of count"
    assert toy.run() == ["gather", "count"]
    assert toy.text("gather") == "abc"


def test_a_damaged_table_of_hashes_is_forgotten_and_written_anew(toy: Toy) -> None:
    toy.run()
    path = toy.root / ".slicewise" / "hashes.json"
    table = {"/a/file": [1, 2, 3, "0" * 64]}
    for text in (
        "[]",
        '{"files": {"/a": 5}, "digest": ""}',
        json.dumps({"files": table, "digest": "x"}),
        "{",
    ):
        path.write_text(text)
        assert toy.workspace.load_hashes().table == {}
        assert faults(toy) == {".slicewise/hashes.json": "is damaged"}
        assert faults(toy) == {}
    path.write_text(json.dumps({"files": table, "digest": digest(table)}))
    assert toy.workspace.load_hashes().table == table


def test_the_remembered_hash_of_a_changed_file_is_forgotten(toy: Toy) -> None:
    toy.run()
    path = toy.root / "homes" / "gather" / "text"
    hashes = HashCache()
    before = hashes.hash(path)
    flip_quietly(path)
    assert hashes.hash(path) == before
    verify(toy.steps(), toy.workspace, hashes)
    assert hashes.hash(path) == hash_file(path) != before


def test_an_unreadable_note_of_doubts_is_no_doubt(toy: Toy) -> None:
    toy.run()
    for text in ("{", "5"):
        (toy.root / "homes" / "join" / SUSPECTS_NAME).write_text(text)
        assert toy.actions() == "reuse reuse reuse"


@pytest.mark.parametrize("damage", [flip_quietly, Path.unlink], ids=["flip", "delete"])
def test_a_step_is_told_which_shared_files_are_damaged_and_later_steps_follow_their_content(
    toy: Toy, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = toy.root / "store" / "entry"
    told: list[tuple[Path, ...]] = []

    def run(context: Context[Config]) -> Outcome:
        told.append(context.faulty)
        for path in context.faulty:
            path.unlink(missing_ok=True)
        if not store.exists():
            store.parent.mkdir(exist_ok=True)
            store.write_text(str(toy.config["letters"]))
        (context.out("out") / "text").write_text("abc")
        return Outcome(shared=(store,))

    gather, *others = toy.steps()
    steps: list[Step[Config]] = [replace(gather, run=run), *others]
    monkeypatch.setattr(toy, "steps", lambda: tuple(steps))
    toy.run()
    damage(store)
    assert faults(toy).keys() == {"store/entry"}
    assert "store/entry" in toy.plan()["gather"].reason
    assert toy.run() == [], "gather counts itself no more, and the others were kept"
    assert told == [(), (store,)]
    assert store.read_text() == "abc"
    receipt = Receipt.read(toy.root / "homes" / "gather")
    assert receipt is not None
    store.unlink()
    store.write_text("new")
    steps[0] = replace(gather, run=lambda context: run(replace(context, faulty=())))
    assert toy.run() == ["join"], "a step that keeps the change hands it on"


def test_plans_beside_a_run_never_fail(toy: Toy) -> None:
    """Homes come and go below a plan that takes no lock; it may be out of date, but it must not break."""
    toy.run()
    other = Toy(toy.root, {**toy.config})

    def work() -> None:
        for turn in range(12):
            other.config["glue"] = "-+"[turn % 2]
            other.run(force=["gather"] if turn % 5 == 0 else [])

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        num_plans = 0
        while not done.done():
            toy.plan()
            list(toy.workspace.shelved())
            num_plans += 1
        done.result()
    assert num_plans > 1
    assert check(toy).findings == ()
