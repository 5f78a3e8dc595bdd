"""`slicewise export [MODEL]`: a trained model as a folder that other programs run, with its proof."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.cli.export_recipes import add_recipe_options, read_recipe
from slicewise.cli.options import add_workspace_option, workspace_from
from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.errors import UsageError
from slicewise.engine.workspace import Workspace
from slicewise.exporting.folder_formats import FOLDER_FORMATS
from slicewise.exporting.formats import FORMATS
from slicewise.runtime.bundle import EXPORTS
from slicewise.workflow.slices import stored_cases, workspace_of

if TYPE_CHECKING:
    from slicewise.workflow.acceptance import Limits
    from slicewise.workflow.smaller_model import Recipe

_INPUTS: Final = 300
_NAME: Final = "best_model.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = "a checkpoint, or a stage of the workspace such as joint (default: the one evaluated last)"
    parser.add_argument("model", nargs="?", metavar="CHECKPOINT|STAGE", help=what)
    add_workspace_option(parser)
    formats = f"one or more of {', '.join([*FORMATS.names(), *FOLDER_FORMATS.names()])} (default: onnx)"
    parser.add_argument("--format", nargs="+", action="extend", metavar="NAME", help=formats)
    output = f"folder of the bundle (default: {EXPORTS}/ and the stage, in the workspace)"
    parser.add_argument("--output", type=Path, metavar="DIR", help=output)
    parity = f"generated inputs of the comparison with the checkpoint (default: {_INPUTS})"
    parser.add_argument("--parity", type=int, default=_INPUTS, metavar="N", help=parity)

    add_recipe_options(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.exporting.folder_formats import write_folder
    from slicewise.models.checkpoint import load_checkpoint

    formats = list(dict.fromkeys(args.format or ["onnx"]))
    for name in formats:
        _require_format(name)
    if args.parity < 1:
        raise UsageError(f"--parity {args.parity}: at least 1 input is needed; the default is {_INPUTS}")
    recipe, limits = read_recipe(args)
    checkpoint = _find(args.model, workspace_from(args))
    name = checkpoint.absolute().parent.name
    home = workspace_of(checkpoint).root / EXPORTS / (f"{name}_{recipe.name}" if recipe else name)
    folder = expand_user(args.output) if args.output else home
    graphs = [name for name in formats if name not in FOLDER_FORMATS]
    if graphs or recipe:
        _export_graphs(args, checkpoint, graphs, folder, recipe, limits)
    checkpoint = folder / _NAME if recipe else checkpoint
    for name in (name for name in formats if name in FOLDER_FORMATS):
        alone = args.output is not None and len(formats) == 1
        place = folder if alone else folder.with_name(f"{folder.name}_{name}")
        write_folder(name, checkpoint, load_checkpoint(checkpoint), place)
        say(f"{place}: {name}", "good")
    return 0


def _export_graphs(
    args: argparse.Namespace,
    path: Path,
    formats: list[str],
    folder: Path,
    recipe: "Recipe | None",
    limits: "Limits",
) -> None:
    """Write the bundle, of a smaller model where there is a recipe."""
    from slicewise.exporting.folder import export
    from slicewise.exporting.parity import Inputs
    from slicewise.inference.pipeline import Pipeline
    from slicewise.workflow.compression import add_int8, make_candidate

    with tempfile.TemporaryDirectory() as work:
        candidate = make_candidate(path, recipe, formats, limits, say, Path(work)) if recipe else None
        pipeline = Pipeline.load(candidate.path if candidate else path, backend="torch", device="cpu")
        cases = stored_cases(workspace_of(path), pipeline.checkpoints[0].preprocessing)
        known = f"{len(cases)} test cases and " if cases else ""
        say(
            f"{path}: {', '.join(formats)}, compared with the checkpoint on {known}{args.parity:,} generated "
            "inputs"
        )

        def finish(partial: Path) -> None:
            if candidate:
                candidate.accept(limits, say, partial)
            if args.int8:
                add_int8(path, limits, say, partial, candidate)

        export(pipeline, formats, folder, Inputs(cases, args.parity), say, finish)
    say(f"{folder}: slicewise predict --checkpoint {folder} PATH", "good")


def _require_format(name: str) -> None:
    if name in FOLDER_FORMATS:
        return
    try:
        FORMATS.require(name)
    except ValueError as error:
        is_path = Path(name).exists()
        advice = (
            "; name the checkpoint before --format" if is_path else f", {', '.join(FOLDER_FORMATS.names())}"
        )
        raise UsageError(f"--format: {error}{advice}") from error


def _find(model: str | None, workspace: Workspace) -> Path:
    """Return the checkpoint of a path or a stage, by default the one evaluated last."""
    from slicewise.workflow.checkpoints import evaluated_checkpoint

    trained = {path.parent.name: path for path in sorted(workspace.root.glob(f"checkpoints/*/{_NAME}"))}
    if model is None:
        checkpoint = evaluated_checkpoint(workspace) or (
            None if len(trained) != 1 else next(iter(trained.values()))
        )
        if checkpoint is None:
            raise UsageError(
                f"no model was evaluated in {workspace.root}; name a checkpoint or a stage, of "
                f"{', '.join(trained) or 'which none is trained: run `slicewise run` first'}"
            )
        return checkpoint
    path = expand_user(model)
    if path.is_dir() and (path / _NAME).is_file():
        return path / _NAME
    if path.exists():
        return path
    found = [each for name, each in trained.items() if name == model or name.endswith(f"_{model}")]
    if len(found) != 1:
        raise UsageError(
            f"{model} is no file, and {'no' if not found else 'more than one'} trained stage of "
            f"{workspace.root}; its stages are {', '.join(trained) or 'none'}"
        )
    return found[0]
