"""The door to the test patients."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from slicewise.evaluation.threshold_selection import ThresholdSelection

T = TypeVar("T")


class HeldOutCases(Generic[T]):
    """Test cases that nobody can see before every choice is made, and that are opened once.

    There is no way to the cases but `unseal`, which asks for the finished choices.
    """

    def __init__(self, open_cases: Callable[[], Sequence[T]]) -> None:
        self._open: Callable[[], Sequence[T]] | None = open_cases

    def open(self, selection: ThresholdSelection) -> Sequence[T]:
        """Open the cases.

        Raises:
            RuntimeError: they were opened before; what is chosen after a look at them is not a choice.
            TypeError: the choices are not final ones.
        """
        if not isinstance(selection, ThresholdSelection):
            raise TypeError("the test cases open for finished choices alone")
        if self._open is None:
            raise RuntimeError("the test cases were opened before; they are looked at once")
        opening, self._open = self._open, None
        return opening()
