"""An attempt at an output of the shelf that was given up, however late it wakes up, writes nothing."""

from pathlib import Path

import pytest
from tests.engine.conftest import Toy

from slicewise.engine.fence import Fence, FencedError
from slicewise.engine.receipt import Receipt
from slicewise.engine.shelf import ShelfWorkspace


@pytest.fixture
def receipt(toy: Toy) -> Receipt:
    """The receipt of an output that a trial may make."""
    toy.run()
    found = Receipt.read(toy.root / "homes/gather")
    assert found is not None
    return found


def write(partial: Path) -> Path:
    (partial / "out").mkdir(parents=True, exist_ok=True)
    (partial / "out" / "text").write_text("abc")
    return partial


def test_an_attempt_that_was_given_up_moves_nothing_and_its_work_goes_on(toy: Toy, receipt: Receipt) -> None:
    gather, sleeper, heir = toy.steps()[0], ShelfWorkspace(toy.root), ShelfWorkspace(toy.root)
    mine = write(sleeper.partial("gather", receipt.fingerprint))
    adopted = heir.partial("gather", receipt.fingerprint)
    assert not mine.exists()
    assert (adopted / "out" / "text").read_text() == "abc"
    assert heir.partial("gather", receipt.fingerprint) == adopted
    write(mine)  # it wakes up
    with pytest.raises(FencedError, match="token 1 was given up for 2"):
        sleeper.shelve(gather, receipt, mine)
    shelf = heir.shelve(gather, receipt, adopted)
    assert (shelf / "out" / "text").read_text() == "abc"
    assert not [*adopted.parent.iterdir()]


def test_a_run_of_a_command_that_lost_the_workspace_begins_nothing(toy: Toy, receipt: Receipt) -> None:
    command = Fence.claim(toy.root / ".slicewise/fence")
    orphan = ShelfWorkspace(toy.root, command)
    mine = write(orphan.partial("gather", receipt.fingerprint))
    Fence.claim(command.folder).end_earlier()
    with pytest.raises(FencedError):
        orphan.shelve(toy.steps()[0], receipt, mine)
    with pytest.raises(FencedError):
        ShelfWorkspace(toy.root, command).partial("join", receipt.fingerprint)
