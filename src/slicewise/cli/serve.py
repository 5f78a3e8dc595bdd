"""`slicewise serve`: API and page in the foreground, for containers and systemd."""

import argparse
from functools import partial
from pathlib import Path

from slicewise.cli.options import add_workspace_option, command_for, compose_overrides, workspace_from
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.errors import UsageError
from slicewise.demo.state import CASES_DIR, DemoState
from slicewise.domain.labels import NOTICE
from slicewise.engine.workspace import Workspace
from slicewise.serving import HOST
from slicewise.steps.demo import PHANTOM_SEED, demo_url, service_home
from slicewise.workflow.checkpoints import evaluated_checkpoint, final_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "slicewise serve [options] [key=value ...]"
    add_workspace_option(parser)
    text = "the model (default: the one evaluated last in the workspace)"
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help=text)
    text = "IPv4 address of the API; another one than 127.0.0.1 needs an API key (short for serving.host)"
    parser.add_argument("--host", metavar="ADDRESS", help=text)
    text = "port of the API (short for serving.api_port); that of the page is serving.page_port"
    parser.add_argument("--port", metavar="N", help=text)
    text = "file with the key that requests need in the header X-API-Key (short for serving.api_key_file)"
    parser.add_argument("--api-key-file", type=Path, metavar="FILE", help=text)
    text = "with or without the page; with --host it runs only where --page is given, as it has no login"
    parser.add_argument("--page", action=argparse.BooleanOptionalAction, help=text)
    text = "any key of the configuration, e.g. runtime.device=cpu or serving.page_port=8702"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=text)


def execute(args: argparse.Namespace) -> int:
    from slicewise.demo.lifecycle import serve, write_cases

    workspace = workspace_from(args)
    config = _config_from(args)
    checkpoint = _checkpoint_from(args, workspace, config)
    if url := demo_url(workspace):
        raise UsageError(
            f"a demo of this workspace runs at {url}; stop it first: {command_for(workspace, 'demo', 'stop')}"
        )
    settings, home = config.serving, service_home(workspace)
    with_page = settings.is_local if args.page is None else args.page
    page_host = (HOST if settings.is_local else settings.host) if with_page else None
    if args.page is None and not with_page:
        say("no page: it has no login, and other machines could open it; --page starts it all the same")
    if page_host is not None and not settings.is_local:
        say(
            f"the page has no login: whoever reaches port {settings.page_port} of this machine can use it "
            "and look at results by their address; put a proxy with a login before it, or close the port",
            "warn",
        )
    if with_page:
        write_cases(home / CASES_DIR, settings.phantom_cases, PHANTOM_SEED)
    announce = partial(_announce, all_addresses=settings.host != settings.own_host)
    serve(config, home, checkpoint, page_host=page_host, announce=announce)
    say("stopped")
    return 0


def _announce(state: DemoState, *, all_addresses: bool) -> None:
    api = state.service("api")
    say(f"API at {api.url}, its documentation at {api.url}/docs")
    if state.url != api.url:
        say(f"page at {state.url}")
    if all_addresses:
        say("other machines use the name or address of this one instead of 127.0.0.1")
    say(f"serving {state.checkpoint}; Ctrl-C or SIGTERM stops it. {NOTICE}")


def _config_from(args: argparse.Namespace) -> Config:
    """Return the configuration with the keys that the options are short for.

    Raises:
        UsageError: an option and an override set the same key, or a word is not an override.
    """
    short = {"--host": ("serving.host", args.host), "--port": ("serving.api_port", args.port)}
    given = {word.partition("=")[0].lstrip("+~") for word in args.overrides}
    for word in args.overrides:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(f"{word!r} is neither an option nor key=value; see --help")
    for option, (key, value) in (
        short | {"--api-key-file": ("serving.api_key_file", args.api_key_file)}
    ).items():
        if value is not None and key in given:
            raise UsageError(f"{option} and {key}= set the same; leave one of them out")
    overrides = [f"{key}={value}" for key, value in short.values() if value is not None]
    config = compose_overrides([*args.overrides, *overrides], args)
    if args.api_key_file is None:
        return config
    path = str(expand_user(args.api_key_file).absolute())
    serving = config.serving.model_copy(update={"api_key_file": path})
    return config.model_copy(update={"serving": serving})


def _checkpoint_from(args: argparse.Namespace, workspace: Workspace, config: Config) -> Path:
    """Return the named checkpoint, else the model evaluated last in the workspace, else the last stage's."""
    if args.checkpoint is not None:
        checkpoint = expand_user(args.checkpoint)
        if not checkpoint.is_file():
            raise UsageError(f"--checkpoint {checkpoint} is no file; name a best_model.pth")
        return checkpoint
    checkpoint = evaluated_checkpoint(workspace) or workspace.root / final_checkpoint(config)
    if not checkpoint.is_file():
        raise UsageError(
            f"no model is trained in {workspace.root.absolute()} yet: there is no "
            f"{final_checkpoint(config)}. Run `slicewise run --until evaluate` first, or name a model with "
            "--checkpoint"
        )
    return checkpoint
