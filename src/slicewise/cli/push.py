"""`slicewise push ADDRESS`: finished outputs to a folder or a bucket, from where others pull them."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from slicewise.cli.options import add_wait_option, add_workspace_option, split_names, workspace_from
from slicewise.core.activity import publish_progress
from slicewise.core.console import say
from slicewise.core.disk import MIB
from slicewise.core.errors import RemoteError, UsageError
from slicewise.engine.lock import exclusive_lock
from slicewise.engine.remote import Remote
from slicewise.engine.transfer import Push, plan_push, push
from slicewise.engine.workspace import HasHomes, StoredOutput, Workspace
from slicewise.steps import stored_steps

_MODELS: Final = "train"
_SAMPLES: Final = "samples/*"
"""Pictures of validation patients beside a model"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a folder, or an address such as s3://bucket/folder"
    parser.add_argument("remote", metavar="ADDRESS", help=what)
    add_workspace_option(parser)
    text = "outputs to push, such as train.joint or preprocess (default: train, the trained models alone)"
    parser.add_argument("--steps", metavar="STEP[,STEP]", default=[], action="append", help=text)
    text = "push the pictures of validation patients in samples/ too"
    parser.add_argument("--samples", action="store_true", help=text)
    text = "outputs of superseded settings too, from the shelf"
    parser.add_argument("--all", action="store_true", help=text)
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and stop")
    add_wait_option(parser)
    parser.epilog = (
        "Nothing of patients is pushed unless its step is named: download, preprocess, split, evaluate and "
        "report hold names or pictures of patients."
    )


def execute(args: argparse.Namespace) -> int:
    workspace, remote = workspace_from(args), Remote(args.remote)
    steps = _named_steps(stored_steps(workspace), split_names(args.steps) or [_MODELS])
    with (
        exclusive_lock(workspace.state / "lock", args.wait),
        publish_progress(workspace.state, "slicewise push"),
    ):
        outputs = [(step, output) for step in steps for output in _outputs(workspace, step, every=args.all)]
        if not outputs:
            names = ", ".join(step.name for step in steps)
            raise UsageError(
                f"{workspace.root} holds no finished output of {names}; `slicewise run` makes it"
            )
        for step, output in outputs:
            is_model = step.name.removeprefix("fold").lstrip("0123456789.").startswith(_MODELS)
            without = [_SAMPLES] if is_model and not args.samples else []
            planned = _push(remote, workspace, step, output, without, dry=args.dry_run)
            _report(remote, planned, dry=args.dry_run)
    return 0


def _push(
    remote: Remote,
    workspace: Workspace,
    step: HasHomes,
    output: StoredOutput,
    without: Sequence[str],
    *,
    dry: bool,
) -> Push:
    """Push an output, again where a job on the cluster has moved it to the shelf meanwhile.

    What a job has not finished lies elsewhere, and is no output.
    """
    try:
        planned = plan_push(remote, workspace, output, without)
        if dry:
            _list_files(workspace, planned)
        else:
            push(remote, planned)
    except RemoteError:
        moved = workspace.find(step, output.receipt.fingerprint)
        if moved is None or moved.folders == output.folders:
            raise
        return _push(remote, workspace, step, moved, without, dry=dry)
    return planned


def _named_steps(steps: Sequence[HasHomes], words: Sequence[str]) -> list[HasHomes]:
    """Return the steps that words mean: by name, `train` for every stage, the name without the fold."""
    for word in words:
        if not any(_is_called(step.name, word) for step in steps):
            listed = ", ".join(dict.fromkeys(step.name for step in steps))
            raise UsageError(f"--steps {word}: no such step has run here; there are {listed}")
    return [step for step in steps if step.homes and any(_is_called(step.name, word) for word in words)]


def _is_called(name: str, word: str) -> bool:
    first, _, rest = name.partition(".")
    plain = rest if first.startswith("fold") and rest else name
    return word in (name, plain, *plain.split("."))


def _outputs(workspace: Workspace, step: HasHomes, *, every: bool) -> Iterator[StoredOutput]:
    """Yield the whole outputs of a step: the one at home, or with `every` those on the shelf too."""
    receipt = workspace.home_receipt(step)
    for output in workspace.outputs(step):
        if output.folders.keys() == step.homes.keys() and (
            every or (receipt is not None and output.receipt.fingerprint == receipt.fingerprint)
        ):
            yield output


def _list_files(workspace: Workspace, planned: Push) -> None:
    for each in planned.missing:
        say(f"  {each.checksum.size / MIB:>9,.2f} MiB  {workspace.relative(each.path)}")


def _report(remote: Remote, planned: Push, *, dry: bool) -> None:
    receipt = planned.receipt
    title = f"{receipt.identity.step:<18} {receipt.fingerprint[:12]}"
    size = f"{planned.num_bytes / MIB:,.2f} MiB in {len(planned.missing)} files"
    if planned.conflict is not None:
        made = f"made {planned.conflict}" if planned.conflict else "made at another time"
        say(
            f"{title}  not pushed: {remote.name} has another output of these settings, {made}, and keeps it",
            "warn",
        )
    elif dry:
        say(
            f"{title}  would upload {size}"
            if planned.missing or planned.is_new
            else f"{title}  already there",
            "dim",
        )
    elif planned.missing or planned.is_new:
        say(f"{title}  pushed, {size}", "good")
    else:
        say(f"{title}  already there", "dim")
