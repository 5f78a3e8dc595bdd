"""Ending at a signal: the first one is obeyed in an orderly way, the second one at once.

Ctrl-C and SIGTERM are treated alike. The first raises KeyboardInterrupt in the main thread, so that whatever
runs can put things right; inside `held` it waits for a moment that suits. Where something swallows it (a bare
`except` in an imported package, `hasattr` in C), it is raised again. The second signal ends the process and
its children without another word. As files appear by renaming, not even that leaves half of one.
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

    from psutil import Process

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
EXIT_CODE: Final = 130
_PATIENCE_SECONDS: Final = 5.0
"""The longest that a signal waits for `held` work."""
_DUPLICATE_SECONDS: Final = 0.3
"""`timeout` and a terminal may deliver one wish twice; what comes this close counts as one."""
_RETRY_SECONDS: Final = 0.05
_CHECK_SECONDS: Final = 0.5
"""How often it is made sure that a wish which was raised is still being obeyed."""


class SignalHandler:
    """What one stoppable block knows about the signals it got."""

    def __init__(self) -> None:
        self.signalled_at: float | None = None
        self.deferring = False
        self.pending = False

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Run in the main thread, between two instructions."""
        if self.signalled_at is None:
            self.signalled_at = time.monotonic()
            if not self.deferring:
                self._interrupt()
            self._schedule(_PATIENCE_SECONDS)
        elif time.monotonic() - self.signalled_at > _DUPLICATE_SECONDS:
            exit_now()

    def on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        """Patience is over, or what was raised may have been swallowed."""
        self.release()
        if _is_unwinding():
            signal.setitimer(signal.ITIMER_REAL, _CHECK_SECONDS)
        else:
            self._interrupt()

    def release(self) -> None:
        """Raise KeyboardInterrupt if a signal waits for this moment."""
        if self.pending:
            self.pending = False
            self._interrupt()

    def cancel(self) -> None:
        """Raise nothing more: the work was left for another reason."""
        if self.pending:
            self.pending = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def on_unraisable(self, args: "UnraisableHookArgs") -> None:
        """A wish that came during a destructor was swallowed there; it is made again."""
        if issubclass(args.exc_type, KeyboardInterrupt):
            self._schedule(_RETRY_SECONDS)
        else:
            sys.__unraisablehook__(args)

    def watch(self, descriptor: int) -> None:
        """Run in a thread: it notices a second signal even while the main thread is in a long computation."""
        signal.pthread_sigmask(
            signal.SIG_BLOCK, SIGNALS
        )  # delivered here they would not wake the main thread
        first: float | None = None
        while numbers := os.read(descriptor, 64):
            for _ in (number for number in numbers if number in SIGNALS):
                if first is None:
                    first = time.monotonic()
                elif time.monotonic() - first > _DUPLICATE_SECONDS:
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
    """Obey Ctrl-C and SIGTERM while the block runs; in the main thread only.

    After a signal the handlers stay, so that a second one still ends a process that is slow to leave.
    """
    state = SignalHandler()
    handlers = {number: signal.signal(number, state.on_signal) for number in SIGNALS}
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, state.on_alarm)
    hook, sys.unraisablehook = sys.unraisablehook, state.on_unraisable
    _handlers.append(state)
    try:
        with _watch_signals(state):
            yield state
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _handlers.remove(state)
        if state.signalled_at is None:
            sys.unraisablehook = hook
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def defer_signals() -> Iterator[SignalHandler]:
    """Let the first signal wait until `release` is called on what is yielded, or the block ends.

    It waits a few seconds at most. Outside `stoppable` nothing is held.
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


@contextmanager
def _watch_signals(state: SignalHandler) -> Iterator[None]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=state.watch, args=(reading,), name="stopping", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _is_unwinding() -> bool:
    """Whether the interrupted code is an `except`, a `finally` or an `__exit__` on the way out."""
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
        if "resource_tracker" not in " ".join(_command_line(child)):  # it ends itself, after cleaning up
            _kill(child.pid)
    os._exit(EXIT_CODE)


def _command_line(process: "Process") -> list[str]:
    import psutil

    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
