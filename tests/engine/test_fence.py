"""Of several processes that work at one thing, at most one says that it is finished."""

import json
import multiprocessing
import os
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from tests.engine.conftest import Toy

from slicewise.engine import fence
from slicewise.engine.fence import Fence, FencedError, end_of, numbers
from slicewise.engine.lock import exclusive_lock


def test_a_token_is_larger_than_all_before_it_and_ends_them(tmp_path: Path) -> None:
    first, second = Fence.claim(tmp_path), Fence.claim(tmp_path, plan=3)
    assert (first.number, second.number) == (1, 2)
    second.end_earlier()
    second.require()
    with pytest.raises(FencedError, match=r"token 1 was given up for 2, of process \d+ on "):
        first.require()
    with pytest.raises(FencedError, match="writes nothing any more"):
        first.commit()
    second.commit(plan=3)
    assert end_of(tmp_path, 2) == {**(end_of(tmp_path, 2) or {}), "state": "committed", "plan": 3}


def test_what_was_committed_stays_committed_whoever_comes_later(tmp_path: Path) -> None:
    first = Fence.claim(tmp_path)
    first.commit()
    late = Fence.claim(tmp_path)
    late.end_earlier()
    first.require()
    first.commit()
    assert late.end(1, state="fenced", by=2)["state"] == "committed"


def _commit_or_fence(folder: str, barrier: Barrier) -> None:
    mine = Fence.claim(Path(folder))
    barrier.wait()
    if any(end["state"] == "committed" for end in mine.end_earlier().values()):
        return
    with suppress(FencedError):
        mine.commit()


def test_of_processes_that_start_at_once_exactly_one_commits_and_no_token_is_taken_twice(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        folder, barrier = tmp_path / str(turn), context.Barrier(6)
        workers = [context.Process(target=_commit_or_fence, args=(str(folder), barrier)) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert sorted(numbers(folder)) == [1, 2, 3, 4, 5, 6]
        ends = [end_of(folder, number) for number in range(1, 7)]
        assert [end and end["state"] for end in ends].count("committed") == 1


def test_an_answer_of_the_server_that_was_lost_is_not_taken_for_a_defeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)  # the request, repeated

    monkeypatch.setattr(os, "link", link_twice)
    mine = Fence.claim(tmp_path)
    assert mine.number == 1
    mine.commit()


def test_without_hard_links_only_one_creates_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    first = Fence.claim(tmp_path)
    second = Fence.claim(tmp_path)
    second.end_earlier()
    assert (first.number, second.number) == (1, 2)
    with pytest.raises(FencedError):
        first.commit()


def test_a_local_run_that_lost_the_workspace_while_it_slept_moves_nothing(toy: Toy) -> None:
    toy.run()
    before = {path: path.read_bytes() for path in files(toy.root)}
    toy.config["letters"] = "xyz"
    with exclusive_lock(toy.workspace.state / "lock") as toy.fence:
        Fence.claim(toy.workspace.state / "fence").end_earlier()  # what another machine does after a minute
        with pytest.raises(FencedError, match="fence: token 1 was given up for 2"):
            toy.run()
    assert {path: path.read_bytes() for path in files(toy.root)} == before


def files(root: Path) -> Iterator[Path]:
    return (path for path in (root / "homes").rglob("*") if path.is_file())


def test_old_numbers_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "_KEPT", 3)
    for _ in range(6):
        Fence.claim(tmp_path).end_earlier()
    assert sorted(numbers(tmp_path)) == [4, 5, 6]
    assert json.loads((tmp_path / "5.end").read_text())["by"] == 6
