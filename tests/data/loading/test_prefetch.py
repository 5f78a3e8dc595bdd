import threading
import time
from collections.abc import Iterator

import pytest

from slicewise.data.loading.prefetch import prefetch


def workers() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(prefetch(range(20))) == list(range(20))
    assert workers() == 0


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    stream = prefetch(items(), depth=1)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)

    assert made == [0, 1, 2]  # one waits in the queue, one is ready to follow
    stream.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_at_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    stream = prefetch(items())

    assert next(stream) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(stream)
    assert workers() == 0


def test_a_consumer_that_stops_early_stops_the_thread() -> None:
    for number in prefetch(range(10**9)):
        if number == 3:
            break

    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers() == 0
