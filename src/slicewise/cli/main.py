"""`slicewise VERB ...`: find the verb, run it, turn errors into messages and exit codes."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise import __version__
from slicewise.core.console import close_bars, print_error, say, standard_streams
from slicewise.core.disk import explain_disk_error
from slicewise.core.errors import SliceWiseError, UsageError
from slicewise.core.packages import explain_missing

if TYPE_CHECKING:
    from argparse import Namespace

VERBS = {
    "run": "run the pipeline, or the part of it that is out of date",
    "plan": "show what a run would do, and why",
    "status": "show the outputs and the settings that made them",
    "cancel": "end the jobs of `run --on slurm`",
    "verify": "read all outputs again and list what is damaged",
    "doctor": "check whether a run can work here, and what to do if not",
    "models": "list the architectures and encoders, with their sizes and weights",
    "predict": "predict on volumes and pictures with a trained model",
    "export": "write a trained model for other programs, proven to predict the same",
    "test": "evaluate a trained model on other people's labelled data",
    "ablate": "train and evaluate several recipes in one workspace, and compare them",
    "tune": "search better settings on the validation patients",
    "export-plan": "write the plan as rules of another scheduler",
    "compare": "compare two finished evaluations, patient by patient",
    "config": "print the merged configuration, or what a mode changes",
    "data": "generate a set of pictures with masks",
    "serve": "serve a trained model in the foreground: API and page",
    "demo": "show or stop the demo, and show its logs",
    "benchmark": "measure models and their exports side by side",
    "publish": "push an exported folder to a hub of models",
    "push": "push finished outputs to a folder or a bucket",
    "pull": "pull finished outputs that somebody else has made",
    "clean": "delete superseded outputs",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 for success, 1 a step failed, 2 wrong input, 130 interrupted."""
    if argv is None:
        _require_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    with standard_streams():
        return _run_verb(words) if words and words[0] in VERBS else _show_usage(words)


def _require_utf8() -> None:
    """Start again in Python's UTF-8 mode (PEP 540) under a locale of another encoding.

    File names, settings and the text files of libraries would depend on the locale. Printed text keeps its
    encoding, or that of PYTHONIOENCODING.
    """
    if sys.getfilesystemencoding() == "utf-8" or os.environ.get("PYTHONUTF8") == "1" or not sys.executable:
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def parse(words: Sequence[str]) -> "tuple[Any, Namespace]":
    """Return the module of a verb and its arguments; `words` are those after `slicewise`."""
    from slicewise.cli.options import expand_words
    from slicewise.cli.parser import Parser

    verb = import_module(f"slicewise.cli.{words[0].replace('-', '_')}")
    parser = Parser(
        prog=f"slicewise {words[0]}",
        description=f"{VERBS[words[0]][0].upper()}{VERBS[words[0]][1:]}.",
        allow_abbrev=False,  # an abbreviation may become ambiguous with the next option
    )
    verb.add_arguments(parser)
    # key=value and paths may stand between options
    args = parser.parse_intermixed_args(expand_words(words[1:]))
    args.typed = list(words)
    return verb, args


def _run_verb(words: list[str]) -> int:
    args = None
    try:
        verb, args = parse(words)
        code: int = verb.execute(args)
    except SliceWiseError as error:
        message, code = str(error), error.exit_code
    except KeyboardInterrupt:
        message, code = "interrupted", 130
    except Exception as error:
        message, code = _explain(error, Path(getattr(args, "workspace", Path())))
    else:
        return code
    close_bars()
    print_error(message)
    return code


def _explain(error: Exception, workspace: Path) -> tuple[str, int]:
    """Return the message and the exit code of an error that was not raised on purpose."""
    if isinstance(error, ModuleNotFoundError) and (advice := explain_missing(error)):
        return advice, UsageError.exit_code
    # A full or closed disk met outside any step: at the lock, the log or the record.
    if isinstance(error, OSError) and (explained := explain_disk_error(error, workspace)):
        return str(explained), explained.exit_code
    import traceback

    # Python itself would print the traceback with its secrets; print_error hides them.
    trace = "".join(traceback.format_exception(error))
    return f"{trace}this is a bug in SliceWise; please report it", 1


def _show_usage(words: Sequence[str]) -> int:
    if words and words[0] == "--version":
        say(f"slicewise {__version__}")
        return 0
    verbs = "\n".join(f"  {name:<11} {text}" for name, text in VERBS.items())
    usage = (
        "usage: slicewise VERB [options] [key=value ...]\n"
        "       slicewise --help | --version\n\n"
        f"{verbs}\n\n"
        "`slicewise VERB --help` lists the options of a verb. Any key of the configuration can be set\n"
        "on the command line, e.g. `slicewise run data=lgg training.batch_size=8`."
    )
    if not words or words[0] in ("-h", "--help"):
        say(usage)
        return 0
    from slicewise.config.keys import closest_match

    if words[0].startswith("-") or "=" in words[0]:
        advice = f"; options and keys follow one: slicewise run {words[0]} ..."
    else:
        close_verb = closest_match(words[0], VERBS)
        advice = f"; did you mean {close_verb}?" if close_verb else ""
    print_error(f"{words[0]!r} is not a verb{advice}\n\n{usage}")
    return 2
