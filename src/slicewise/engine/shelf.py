"""The workspace of several runs at a time, whose outputs stay on the shelf: the trials of a search.

Homes keep what they hold; nothing may move outputs home meanwhile.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slicewise.engine.fence import Fence, adopt
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import HasHomes, Workspace


class ShelfWorkspace(Workspace):
    """A workspace for one run beside others.

    Every attempt at an output takes a fencing token and has a folder of its own, which begins with the work
    of the attempt before it. An attempt that was given up, and wakes up, finds its folder gone, and may move
    nothing.

    Args:
        fence: of the command that holds the workspace, and that started the run here or elsewhere.
    """

    def __init__(self, root: Path, fence: Fence | None = None) -> None:
        super().__init__(root, fence)
        self._attempts: dict[str, Fence] = {}

    @contextmanager
    def turn(self, step: str, fingerprint: str) -> Iterator[None]:
        """Wait while another run makes the same output; then it is there, and reused."""
        path = self.state / "turns" / f"{step}-{fingerprint[:16]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def partial(self, step: str, fingerprint: str) -> Path:
        """Return the folder for the work of this attempt, which begins with the first call.

        Raises:
            FencedError: another command holds the workspace.
        """
        usual = super().partial(step, fingerprint)
        attempt = self._attempts.get(usual.name)
        if attempt is None:
            self._require_fence()
            attempt = self._attempts[usual.name] = Fence.claim(self.state / "leases" / step / usual.name)
            attempt.end_earlier()
            return adopt(usual.parent, usual.name, attempt)
        return usual.with_name(f"{usual.name}.{attempt.number}")

    def shelve(self, step: HasHomes, receipt: Receipt, partial: Path) -> Path:
        self._attempts[receipt.fingerprint[:16]].require()
        target = super().shelve(step, receipt, partial)
        for stray in partial.parent.glob(f"{partial.stem}.*"):  # of attempts that woke up meanwhile
            self.discard(stray)
        return target
