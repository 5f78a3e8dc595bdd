"""Commands as text: as typed, to resume a stopped run, and for a workspace."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from slicewise.core.redact import redact
from slicewise.engine.selection import expand
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace


def default_workspace() -> Path:
    """Return the workspace of a command without --workspace."""
    return Path(os.environ.get("SLICEWISE_WORKSPACE", "."))


def split_names(text: str) -> list[str]:
    """Return the names in a text such as `split,train`."""
    return [name for name in map(str.strip, text.split(",")) if name]


def command_line(args: argparse.Namespace) -> str:
    """Return the command as it was typed, quoted for the shell."""
    return _shell_command(args.typed)


def command_for(workspace: Workspace, *words: str) -> str:
    """Return a command on this workspace, for the current folder."""
    is_default = workspace.root == (Path.cwd() if _is_script() else default_workspace().absolute())
    workspace_option = () if is_default else ("--workspace", str(workspace.root))
    return _shell_command([*words, *workspace_option])


def resume_command(args: argparse.Namespace, finished: Set[str], steps: Sequence[Step[Any]]) -> str:
    """Return the command that resumes a stopped one: it does not force the steps that have finished."""
    forced_steps = expand(split_names(args.force), steps)
    if not finished & {*forced_steps}:
        return command_line(args)
    words, remaining = list(args.typed), [name for name in forced_steps if name not in finished]
    for place in reversed([place for place, word in enumerate(words) if word.partition("=")[0] == "--force"]):
        del words[place : place + (1 if "=" in words[place] else 2)]
    return _shell_command([words[0], *(["--force", ",".join(remaining)] if remaining else []), *words[1:]])


def _shell_command(typed: Sequence[str]) -> str:
    program = Path(sys.argv[0])
    if _is_script() and typed[0] == "run":
        words = [_shell_name(Path(sys.executable), "python"), str(program), *typed[1:]]
    else:
        words = [_shell_name(program, "slicewise"), *typed]
    return redact(shlex.join(words))


def _is_script() -> bool:
    """Whether a script stands for `slicewise run`; it does not read $SLICEWISE_WORKSPACE."""
    program = Path(sys.argv[0])
    return program.suffix == ".py" and program.name != "__main__.py"


def _shell_name(program: Path, name: str) -> str:
    """Return the program as the shell needs it: the bare name only where PATH leads to this very program."""
    if not program.is_file() or program.suffix == ".py" or shutil.which(name) == str(program):
        return name
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)
