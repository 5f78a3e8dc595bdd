"""Ctrl-C and SIGTERM: the first signal stops the work in an orderly way, the second one at once.

The first raises KeyboardInterrupt in the main thread, inside `defer_signals` at a suitable moment. Where that
is swallowed (a bare `except` in a library, `hasattr` in C), it is raised again. The second signal ends the
process and its children immediately. Files are written by renaming, so neither leaves a partial file.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE: Final = 130
_PATIENCE_SECONDS: Final = 5.0
"""The longest that a signal is deferred."""
DUPLICATE_SECONDS: Final = 0.3
"""`timeout` and a terminal may deliver a signal twice; within this time it counts once."""
_RETRY_SECONDS: Final = 0.05
_CHECK_SECONDS: Final = 0.5
"""Interval of the checks that KeyboardInterrupt was not swallowed."""


class SignalHandler:
    """State of one `handle_signals` block."""

    def __init__(self) -> None:
        self.signalled_at: float | None = None
        self.deferring = False
        self.pending = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGINT and SIGTERM, in the main thread."""
        if self.signalled_at is None:
            self.signalled_at = time.monotonic()
            if not self.deferring:
                self._interrupt()
            self._schedule(_PATIENCE_SECONDS)
        elif time.monotonic() - self.signalled_at > DUPLICATE_SECONDS:
            exit_now()

    def on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        """Raise what was deferred too long, or may have been swallowed."""
        self.release()
        if _is_unwinding():
            signal.setitimer(signal.ITIMER_REAL, _CHECK_SECONDS)
        else:
            self._interrupt()

    def release(self) -> None:
        """Raise KeyboardInterrupt if a signal is deferred."""
        if self.pending:
            self.pending = False
            self._interrupt()

    def cancel(self) -> None:
        """Discard a deferred signal: the work ended for another reason."""
        if self.pending:
            self.pending = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def on_unraisable(self, args: "UnraisableHookArgs") -> None:
        """Raise KeyboardInterrupt again where a destructor swallowed it."""
        if issubclass(args.exc_type, KeyboardInterrupt):
            self._schedule(_RETRY_SECONDS)
        else:
            sys.__unraisablehook__(args)

    def watch(self, descriptor: int) -> None:
        """Notice a second signal, in a thread, while the main thread is in a long computation."""
        # Delivered to this thread, signals would not wake the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        first: float | None = None
        while numbers := os.read(descriptor, 64):
            for _ in (number for number in numbers if number in SIGNALS):
                if first is None:
                    first = time.monotonic()
                elif time.monotonic() - first > DUPLICATE_SECONDS:
                    exit_now()
        os.close(descriptor)

    def _interrupt(self) -> NoReturn:
        signal.setitimer(signal.ITIMER_REAL, _CHECK_SECONDS)
        raise KeyboardInterrupt

    def _schedule(self, seconds: float) -> None:
        self.pending = True
        signal.setitimer(signal.ITIMER_REAL, seconds)


_handlers: list[SignalHandler] = []


@contextmanager
def handle_signals() -> Iterator[SignalHandler]:
    """Handle Ctrl-C and SIGTERM while the block runs; in the main thread only.

    After a signal the handlers stay, so that a second one ends a process that is slow to stop.
    """
    state = SignalHandler()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=state.watch, args=(reading,), name="signals", daemon=True).start()
    handlers = {number: signal.signal(number, state.on_signal) for number in SIGNALS}
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, state.on_alarm)
    hook, sys.unraisablehook = sys.unraisablehook, state.on_unraisable
    _handlers.append(state)
    try:
        yield state
    finally:
        signal.set_wakeup_fd(wakeup)
        os.close(writing)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _handlers.remove(state)
        if state.signalled_at is None:
            sys.unraisablehook = hook
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[SignalHandler]:
    """Defer the first signal, for a few seconds at most, until `release` is called or the block ends.

    Outside `handle_signals` nothing is deferred.
    """
    state = _handlers[-1] if _handlers else SignalHandler()
    state.deferring = True
    try:
        yield state
    except BaseException:
        state.cancel()
        raise
    finally:
        state.deferring = False
    state.release()


def _is_unwinding() -> bool:
    """Whether the interrupted code is an `except`, a `finally` or an `__exit__` of KeyboardInterrupt."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def exit_now() -> NoReturn:
    """End this process and its children now."""
    import psutil

    with suppress(OSError):  # the terminal may be gone
        os.write(2, b"\nstopped at once; to continue, give the same command again\n")
    for child in psutil.Process().children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.Error:
            command = []
        if "resource_tracker" not in " ".join(command):  # that one cleans up and ends by itself
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
    os._exit(EXIT_CODE)
