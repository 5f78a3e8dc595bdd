"""`slicewise VERB ...`: find the verb, run it, turn errors into messages and exit codes."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

VERBS = {
    "run": "run the pipeline, or the part of it that is out of date",
    "plan": "say what a run would do, and why",
    "status": "say what is there and what made it",
    "verify": "read all outputs again and name what is damaged",
    "doctor": "say whether a run can work here, and what to do if not",
    "predict": "examine volumes and pictures with a trained network",
    "ablate": "train and evaluate several recipes in one workspace, and compare them",
    "compare": "compare two finished evaluations, patient by patient",
    "config": "print the merged configuration, or what a mode changes",
    "demo": "show or stop the demo",
    "clean": "delete superseded outputs",
}


class Verb(Protocol):
    """What a module of a verb offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def execute(self, args: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 done, 1 a step failed, 2 wrong input, 130 interrupted."""
    if argv is None:
        _require_utf8()
    from slicewise.core.console import standard_streams

    words = list(sys.argv[1:] if argv is None else argv)
    with standard_streams():
        return _run_verb(words) if words and words[0] in VERBS else _without_verb(words)


def _require_utf8() -> None:
    """Start again in Python's UTF-8 mode (PEP 540) under a locale of another encoding.

    File names, settings, and the text files of libraries would depend on it. What is printed keeps the
    encoding of the locale, or that of PYTHONIOENCODING.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _run_verb(words: list[str]) -> int:
    from slicewise.cli.options import expand_wait
    from slicewise.cli.parser import Parser

    verb: Verb = import_module(f"slicewise.cli.{words[0]}")
    parser = Parser(
        prog=f"slicewise {words[0]}",
        description=VERBS[words[0]].capitalize() + ".",
        allow_abbrev=False,  # a short form that works today may mean two flags tomorrow
    )
    verb.add_arguments(parser)
    args = parser.parse_intermixed_args(
        expand_wait(words[1:])
    )  # key=value and paths may stand between options
    args.typed = words
    return _execute(verb, args)


def _execute(verb: Verb, args: argparse.Namespace) -> int:
    from slicewise.core.errors import SliceWiseError

    try:
        return verb.execute(args)
    except SliceWiseError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except OSError as error:
        return _storage_error(error, args)
    except Exception as error:
        return _internal_error(error)


def _storage_error(error: OSError, args: argparse.Namespace) -> int:
    """Tell a full or closed disk that was met outside any step: at the lock, the log or the record."""
    from pathlib import Path

    from slicewise.core.disk import explain_disk_error

    explained = explain_disk_error(error, Path(getattr(args, "workspace", Path())))
    if explained is None:
        return _internal_error(error)
    _complain(str(explained))
    return explained.exit_code


def _internal_error(error: Exception) -> int:
    """Tell a fault of ours; Python would print it with whatever secret it holds."""
    _complain("".join(traceback.format_exception(error)) + "this is a fault of SliceWise; please report it")
    return 1


def _complain(message: str) -> None:
    from slicewise.core.console import close_bars, print_error

    close_bars()
    print_error(message)


def _without_verb(words: Sequence[str]) -> int:
    from slicewise.core.console import say

    if words and words[0] == "--version":
        from slicewise import __version__

        say(f"slicewise {__version__}")
        return 0
    listed = "\n".join(f"  {name:<8} {text}" for name, text in VERBS.items())
    text = (
        "usage: slicewise VERB [options] [key=value ...]\n"
        "       slicewise --help | --version\n\n"
        f"{listed}\n\n"
        "`slicewise VERB --help` lists the options of a verb. Any key of the configuration can be set\n"
        "on the command line, e.g. `slicewise run data=lgg training.batch_size=8`."
    )
    if not words or words[0] in ("-h", "--help"):
        say(text)
        return 0
    _complain(f"{words[0]!r} is not a verb{_suggestion(words[0])}\n\n{text}")
    return 2


def _suggestion(word: str) -> str:
    """Return which verb a first word may have stood for."""
    from slicewise.config.keys import closest_match

    if word.startswith("-") or "=" in word:
        return f"; options and keys follow one: slicewise run {word} ..."
    near = closest_match(word, VERBS)
    return f"; did you mean {near}?" if near else ""
