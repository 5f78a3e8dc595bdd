import json
import time
from pathlib import Path

from slicewise.core import activity
from slicewise.core.activity import PROGRESS_NAME, publish_progress, read_progress
from slicewise.core.console import progress, progress_bar


def wait_for(folder: Path, desc: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = read_progress(folder)
        if found and found["job"] and found["job"]["desc"] == desc:
            return
        time.sleep(0.05)
    raise AssertionError(f"{desc} was never written")


def test_a_bar_is_written_while_it_is_open_and_the_file_goes_with_the_command(tmp_path: Path) -> None:
    with publish_progress(tmp_path, "slicewise run"), activity.step("split", "forced"):
        with progress_bar(desc="outer", total=8, unit="B", initial=2) as bar:
            bar.update(3)
            bar.set_postfix_str("loss 0.5")
            wait_for(tmp_path, "outer")
            found = read_progress(tmp_path)
            assert found is not None
            assert found["command"] == "slicewise run"
            assert found["step"]["name"] == "split"
            job = found["job"]
            assert (job["initial"], job["done"], job["total"], job["note"]) == (2, 5, 8, "loss 0.5")
            for item in progress(["a", "b"], desc="inner"):
                if item == "b":
                    wait_for(tmp_path, "inner")
            wait_for(tmp_path, "outer")
        assert activity.current()[1] is None
    assert not (tmp_path / PROGRESS_NAME).exists()
    assert activity.current() == (None, None)


def test_a_loop_that_is_left_early_or_fails_leaves_no_bar(tmp_path: Path) -> None:
    for _ in progress(range(10), desc="left"):
        break
    items = progress(range(3), desc="dropped")
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert activity.current()[1] is None


def test_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    (tmp_path / PROGRESS_NAME).write_text('{"step": ')
    assert read_progress(tmp_path) is None
    (tmp_path / PROGRESS_NAME).write_text(json.dumps({"step": None}))
    assert read_progress(tmp_path) is None
