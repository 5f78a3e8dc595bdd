import threading
import time
from pathlib import Path

import psutil
import pytest

from slicewise.core.errors import DataError
from slicewise.data.phantom import patients, pictures
from slicewise.data.phantom.patients import materialise_patients, patient_name
from slicewise.data.phantom.pictures import materialise_pictures


def test_only_missing_patients_are_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def write(folder: Path, number: int, seed: int) -> Path:
        made.append(number)
        (folder / patient_name(number)).mkdir(parents=True)
        return folder / patient_name(number)

    monkeypatch.setattr(patients, "write_patient", write)
    (tmp_path / patient_name(2)).mkdir()
    found = materialise_patients(tmp_path, [3, 2, 1, 3], 0, 1)
    assert made == [3, 1]
    assert [path.name for path in found] == [patient_name(number) for number in (3, 2, 1, 3)]


def test_nothing_to_do_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patients, "map_cases", lambda *_, **__: pytest.fail("started"))
    assert materialise_patients(tmp_path, [], 0, 4) == []


def test_a_killed_worker_is_an_error_and_no_hang(tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def generate() -> None:
        try:
            materialise_patients(tmp_path, range(40), 0, 2)
        except DataError as error:
            raised.append(error)

    thread = threading.Thread(target=generate, daemon=True)
    thread.start()
    _kill_a_worker(time.monotonic() + 30)
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert "run again" in str(raised[0])
    assert not [path for path in tmp_path.iterdir() if len(list(path.iterdir())) != 5 and path.name[0] != "."]


def _kill_a_worker(deadline: float) -> None:
    while time.monotonic() < deadline:
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                return
        time.sleep(0.05)
    pytest.fail("no worker was started")


def test_pictures_are_made_once(tmp_path: Path) -> None:
    folder = materialise_pictures(tmp_path / "pictures", 3, 0, 1)
    made = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert len(made) == 3
    assert materialise_pictures(folder, 3, 0, 1) == folder
    with pytest.raises(DataError, match="move the folder"):
        materialise_pictures(folder, 2, 0, 1)


def test_processes_draw_what_one_process_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_PICTURES_PER_WORKER", 3)
    there = materialise_pictures(tmp_path / "two", 6, 0, 2)
    here = materialise_pictures(tmp_path / "one", 6, 0, 1)
    drawn = {path.relative_to(here): path.read_bytes() for path in here.rglob("*.*")}
    assert len(drawn) == 6
    assert {path.relative_to(there): path.read_bytes() for path in there.rglob("*.*")} == drawn
