"""`slicewise pull ADDRESS`: outputs that somebody else has made, so that a run reuses them."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from slicewise.cli import options
from slicewise.cli.plan import build_steps
from slicewise.cluster.lease import refuse_beside_jobs
from slicewise.config.schema import Config
from slicewise.core.activity import publish_progress
from slicewise.core.console import say
from slicewise.core.disk import MIB
from slicewise.core.errors import RemoteError, UsageError
from slicewise.engine.lock import exclusive_lock
from slicewise.engine.plan import Decision, expand, plan, select
from slicewise.engine.remote import Remote
from slicewise.engine.step import Step
from slicewise.engine.transfer import explain_absence, pull
from slicewise.engine.workspace import Workspace

_LATEST: Final = "latest"


class _Wanted(NamedTuple):
    """A step, and the fingerprint of its output where one was typed."""

    step: Step[Config]
    fingerprint: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a folder, or an address such as s3://bucket/folder"
    parser.add_argument("remote", metavar="ADDRESS", help=what)
    options.add_config_options(parser)
    text = "outputs to pull, such as train.joint, train.joint@3f2a91 or train.joint@latest (default: train)"
    parser.add_argument(
        "--steps", metavar="STEP[@FINGERPRINT][,STEP]", default=[], action="append", help=text
    )
    parser.add_argument("--list", action="store_true", help="list what is there, and stop")
    options.add_wait_option(parser)
    parser.epilog = (
        "Without a fingerprint the output of this configuration and of the data here is pulled, which a run "
        "then reuses. With one, or with `latest`, it is pulled whatever made it, for `predict` and `export`."
    )


def execute(args: argparse.Namespace) -> int:
    remote = Remote(args.remote)
    if args.list:
        _list(remote)
        return 0
    config, workspace = options.compose_from(args), options.workspace_from(args)
    steps = build_steps(config, workspace)
    wanted = list(_wanted(steps, options.split_names(args.steps)))
    with (
        exclusive_lock(workspace.state / "lock", args.wait) as workspace.fence,
        publish_progress(workspace.state, "slicewise pull"),
    ):
        refuse_beside_jobs(workspace)
        workspace.sweep()
        hashes = workspace.load_hashes()
        decisions = {
            each.step.name: each
            for each in plan(steps, config, workspace, hashes, select(steps, scope="pull"))
        }
        workspace.save_hashes(hashes)
        workspace.remember_steps(steps)
        found = [_pull(remote, workspace, steps, each, decisions[each.step.name]) for each in wanted]
    return 0 if all(found) else 1


def _wanted(steps: Sequence[Step[Config]], words: Sequence[str]) -> Iterator[_Wanted]:
    """Yield the outputs that are named; by default those of the training steps."""
    if not words:
        yield from (_Wanted(step) for step in steps if step.group == "train" and step.homes)
    for word in words:
        name, at, fingerprint = word.partition("@")
        named = [step for step in steps if step.name in expand([name], steps) and step.homes]
        if at and (len(named) != 1 or not fingerprint):
            raise UsageError(f"--steps {word}: a fingerprint is that of one step; write STEP@FINGERPRINT")
        yield from (_Wanted(step, fingerprint) for step in named)


def _pull(
    remote: Remote,
    workspace: Workspace,
    steps: Sequence[Step[Config]],
    wanted: _Wanted,
    decision: Decision[Config],
) -> bool:
    """Pull an output where it is not here; return whether it is here now."""
    step = wanted.step
    fingerprint = _find(remote, wanted) if wanted.fingerprint else decision.identity.fingerprint
    title, here = f"{step.name:<18} {fingerprint[:12]}", workspace.find(step, fingerprint)
    if here is not None and not any(workspace.faults(here)):
        say(f"{title}  already here", "dim")
        return True
    receipt = remote.receipt(step.name, fingerprint)
    if receipt is None:
        say(f"{title}  not pulled: {explain_absence(remote, decision.identity)}", "warn")
        return False
    num_bytes = pull(remote, workspace, steps, step, receipt)
    say(f"{title}  pulled, {num_bytes / MIB:,.2f} MiB to {', '.join(step.homes.values())}", "good")
    return True


def _find(remote: Remote, wanted: _Wanted) -> str:
    """Return the fingerprint that begins as the typed one does; `latest`: of what was made last."""
    if wanted.fingerprint == _LATEST and (receipts := [*remote.receipts(wanted.step.name)]):
        return max(receipts, key=lambda each: each.report.made_at).fingerprint
    known = remote.fingerprints(wanted.step.name)
    matching = [each for each in known if each.startswith(wanted.fingerprint)]
    if len(matching) != 1:
        listed = ", ".join(each[:12] for each in known) or "none"
        many = "no output" if not matching else "more than one output"
        raise RemoteError(
            f"{remote.name} has {many} of {wanted.step.name} whose fingerprint begins with "
            f"{wanted.fingerprint[:64]}; there are {listed}"
        )
    return matching[0]


def _list(remote: Remote) -> None:
    """Print a line per output."""
    receipts = [receipt for step in remote.steps() for receipt in remote.receipts(step)]
    for receipt in receipts:
        tables = [*receipt.files.values(), receipt.shared]
        size = sum(each.size for table in tables for each in table.values())
        made = receipt.report.made_at or "at an unknown time"
        say(f"{receipt.identity.step:<18} {receipt.fingerprint[:12]}  {size / MIB:>9,.2f} MiB  made {made}")
    if not receipts:
        say(f"{remote.name} holds no outputs")
