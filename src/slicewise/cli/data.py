"""`slicewise data generate shapes FOLDER`: write a generated set of pictures with masks."""

import argparse
import shlex
from pathlib import Path

from slicewise.config.schema.sources import ShapesSettings
from slicewise.core.console import say
from slicewise.core.disk import existing_parent, expand_user
from slicewise.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("generate",), help="what to do")
    parser.add_argument("kind", choices=("shapes",), help="circles, ellipses and others on texture")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder, or one made before")
    for name, text in (
        ("train", "pictures to train on"),
        ("val", "validation pictures"),
        ("test", "test pictures"),
        ("size", "side of the pictures, pixels"),
        ("classes", "1, or each kind of shape is a class, at most 4"),
        ("seed", "the set is the same for a seed"),
    ):
        default = ShapesSettings.model_fields[name].default
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )


def execute(args: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from slicewise.data.shapes import CLASSES_NAME, class_names, write_shapes

    numbers = {name: getattr(args, name) for name in ("train", "val", "test", "size", "classes", "seed")}
    try:
        settings = ShapesSettings(kind="shapes", name="shapes", **numbers)
    except ValidationError as error:
        faults = (f"--{fault['loc'][0]} {fault['input']}: {fault['msg'].lower()}" for fault in error.errors())
        raise UsageError("; ".join(faults)) from error
    folder = expand_user(args.folder)
    if not existing_parent(folder).is_dir():
        raise UsageError(f"{existing_parent(folder)} is a file; name a folder")
    write_shapes(folder, settings)
    counts = f"{settings.train} + {settings.val} + {settings.test}"
    say(f"{folder}: {counts} pictures with masks in train, val and test")
    names = class_names(settings.classes)
    say(f"classes, as in {CLASSES_NAME}: {', '.join(names)}")
    recipe = f"recipes=multiclass tasks.segmentation.classes=[{','.join(names)}]"
    recipe = recipe if settings.classes > 1 else "recipes=binary"
    say(f"train on it: slicewise run {recipe} data=image_masks data.path={shlex.quote(str(folder))}", "dim")
    return 0
