"""`slicewise publish DIR --to user/name`: an exported folder to the Hugging Face Hub."""

import argparse
from pathlib import Path

from slicewise.core.console import say
from slicewise.core.disk import expand_user


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "what `slicewise export --format huggingface` wrote"
    parser.add_argument("folder", type=Path, metavar="DIR", help=text)
    text = "the repository: user/name, or organisation/name"
    parser.add_argument("--to", required=True, metavar="USER/NAME", help=text)
    parser.add_argument("--dry-run", action="store_true", help="show what would be pushed, and stop")
    parser.add_argument("--private", action="store_true", help="make a new repository a private one")
    parser.add_argument("--message", default="", metavar="TEXT", help="of the commit")
    parser.epilog = "The token is read from HF_TOKEN, or is that of `hf auth login`; it is printed nowhere."


def execute(args: argparse.Namespace) -> int:
    from slicewise.exporting.publish import plan_upload, push

    upload = plan_upload(expand_user(args.folder), args.to)
    visibility = "private if it is new" if args.private else "public"
    say(f"{upload.folder} to https://huggingface.co/{upload.repository} ({visibility})", "header")
    for name, size in upload.files:
        say(f"  {size / 1024:>10,.1f} KiB  {name}")
    say(f"  {upload.num_bytes / 1024:>10,.1f} KiB  in {len(upload.files)} files")
    if args.dry_run:
        say("dry run: nothing was pushed", "dim")
        return 0
    say(f"published: {push(upload, private=args.private, message=args.message)}", "good")
    return 0
