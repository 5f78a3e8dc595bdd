"""Real signals to small programs."""

import signal
import subprocess
import sys

import psutil
import pytest

from slicewise.core.signals import SignalHandler, defer_signals, handle_signals

WORK = """
import contextlib, hashlib, subprocess, sys, time
from slicewise.core import signals
from slicewise.core.signals import defer_signals, handle_signals

signals._PATIENCE_SECONDS = 0.5

def compute():  # deaf to signals until it is done, as a long tensor operation is
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)

def wait():
    time.sleep(60)

class Dying:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)

with handle_signals() as stopper:
    try:
        {body}
    except KeyboardInterrupt:
        print("orderly", flush=True)
        sys.exit(130)
"""


def start(body: str) -> subprocess.Popen[str]:
    code = WORK.format(body=body.replace("\n", "\n        "))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_in_an_orderly_way(number: int) -> None:
    process = start('print("ready", flush=True)\nwait()')
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "orderly\n", "")


def test_held_work_is_finished_first() -> None:
    process = start(
        'with defer_signals() as hold:\n    print("ready", flush=True)\n'
        "    while not hold.pending: time.sleep(0.01)\n"
        '    print("whole", flush=True)\n    hold.release()\n    print("never")'
    )
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("whole\norderly\n", "")


def test_held_work_is_not_waited_for_for_ever() -> None:
    process = start('with defer_signals():\n    print("ready", flush=True)\n    wait()')
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=50)
    assert out == "orderly\n"


def test_a_signal_that_a_destructor_swallows_is_not_lost() -> None:
    process = start("Dying()\nwait()")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=50) == ("orderly\n", "")


@pytest.mark.parametrize("held_too", [False, True])
def test_a_signal_that_a_bare_except_swallows_is_not_lost(held_too: bool) -> None:
    body = 'try:\n    print("ready", flush=True)\n    wait()\nexcept BaseException: pass\nwait()'
    process = start("with defer_signals():\n    " + body.replace("\n", "\n    ") if held_too else body)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=50) == ("orderly\n", "")


def test_putting_things_right_is_not_interrupted_however_long_it_takes() -> None:
    process = start(
        "@contextlib.contextmanager\n"
        "def tidy():\n"
        "    try: yield\n"
        "    finally:\n"
        "        time.sleep(1.2)\n"
        "        try: raise OSError\n"
        "        except OSError: time.sleep(0.7)\n"
        '        print("tidy", flush=True)\n'
        'with tidy():\n    print("ready", flush=True)\n    wait()'
    )
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=50) == ("tidy\norderly\n", "")


def test_the_second_signal_ends_a_deaf_process_and_its_children_at_once() -> None:
    process = start(
        'child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])\n'
        'with defer_signals():\n    print("ready", flush=True)\n    compute()'
    )
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.6)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.split("\n") == ["", "stopped at once; to continue, give the same command again", ""]
    assert children
    psutil.wait_procs(children, timeout=30)
    assert not [child for child in children if child.is_running() and child.status() != "zombie"]


def test_a_signal_delivered_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, ended = [0.0], []
    monkeypatch.setattr("slicewise.core.signals.time.monotonic", lambda: now[0])
    monkeypatch.setattr("slicewise.core.signals.exit_now", lambda: ended.append(now[0]))
    stopper = SignalHandler()
    with pytest.raises(KeyboardInterrupt):
        stopper.on_signal(signal.SIGTERM, None)
    for now[0] in (0.1, 2.0):
        stopper.on_signal(signal.SIGINT, None)
    assert ended == [2.0]


def test_outside_a_block_nothing_is_deferred_and_afterwards_the_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    hook = sys.unraisablehook
    with handle_signals() as stopper, defer_signals() as hold:
        assert hold is stopper
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
    assert sys.unraisablehook is hook
    with defer_signals() as hold:
        assert hold is not stopper
