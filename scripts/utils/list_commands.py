#!/usr/bin/env python3
"""Write docs/reference/commands.md: every verb and option of the command line, from its parsers."""

import argparse
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from slicewise.cli.main import VERBS
from slicewise.cli.parser import Parser

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "commands.md"
HEAD = """# Commands

Made by `scripts/utils/list_commands.py` from the parsers. `slicewise VERB --help` prints the same. Where a
verb takes `key=value`, any key of the [configuration](configuration.md) can be set; [keys](keys.md) lists
them. `scripts/run_full_pipeline.py` is `slicewise run` with the checkout as its workspace, and
`scripts/demo/run_multitask_demo.py` is `slicewise serve`.

Exit codes: 0 success, 1 a step failed, 2 wrong input (a key, an option, a path that does not exist), 130
interrupted. For commands that run no step, 1 means:

| command | 1 means |
|---|---|
| `predict` | a case could not be predicted |
| `verify` | something is damaged |
| `doctor` | something prevents a run |
| `serve` | a service did not start, or ended ten times in a row; 0 means stopped by SIGTERM or Ctrl-C |
| `demo status`, `demo stop` | no demo of this workspace is running, or a service of it does not respond |
| `demo logs` | there is no log |
| `status --watch` | the run failed, was stopped or killed |
"""


def parser_of(verb: str) -> Parser:
    """Return the parser of a verb, as `slicewise VERB` makes it."""
    parser = Parser(prog=f"slicewise {verb}", allow_abbrev=False)
    import_module(f"slicewise.cli.{verb.replace('-', '_')}").add_arguments(parser)
    return parser


def section(verb: str) -> Iterator[str]:
    """Yield the lines about one verb: what it does, and a table of its arguments."""
    actions = [action for action in parser_of(verb)._actions if not isinstance(action, argparse._HelpAction)]
    yield f"\n## {verb}\n\n{VERBS[verb][0].upper()}{VERBS[verb][1:]}.\n"
    if actions:
        yield "| argument | meaning |\n|---|---|"
        yield from (f"| `{_shown(action)}` | {_meaning(action)} |" for action in actions)


def _shown(action: argparse.Action) -> str:
    metavar = action.metavar or action.dest.upper()
    metavar = metavar if isinstance(metavar, str) else " ".join(metavar)
    value = "" if action.nargs == 0 else f"[{metavar}]" if action.nargs == "?" else metavar
    return " ".join([", ".join(action.option_strings), value]).strip().replace("|", "\\|")


def _meaning(action: argparse.Action) -> str:
    choices = f": {', '.join(f'`{choice}`' for choice in action.choices)}" if action.choices else ""
    text = (action.help or "").replace("<", "&lt;").replace("|", "\\|")
    return f"{text}{choices}".removeprefix(": ")


def page() -> str:
    """Return the whole page."""
    return HEAD + "\n".join(line for verb in VERBS for line in section(verb)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
