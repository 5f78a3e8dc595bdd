"""The card of a model that leaves its workspace: the one that the report wrote, or a short one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from huggingface_hub import ModelCardData

from slicewise import __version__
from slicewise.core.errors import SliceWiseError
from slicewise.core.files import read_json
from slicewise.domain.labels import NOTICE, SYNTHETIC_WARNING
from slicewise.models.checkpoint import Checkpoint

_REPORT: Final = Path("results/report")
_REPORT_FILES: Final = " All of it, with every setting: `report.html` and `report.json`."
"""They stay in the workspace"""


def write_card(path: Path, checkpoint: Checkpoint, usage: str) -> str:
    """Return the model card with a section on its use: YAML front matter, then Markdown.

    The scores are those of the report in the workspace that the checkpoint at `path` lies in. Where that is
    about another model or missing, the card says that it was not evaluated.
    """
    card = find_card(path, checkpoint) or _short_card(checkpoint)
    text = card.replace(_REPORT_FILES, "").rstrip()
    return f"{text}\n\n{usage.strip()}\n\n## Licence\n\n{describe_licence(checkpoint)}\n"


def find_card(path: Path, checkpoint: Checkpoint) -> str | None:
    """Return the card that the report of a workspace wrote about this very training; None without one."""
    above = path.absolute().parents
    folder = above[min(2, len(above) - 1)] / _REPORT
    try:
        steps = read_json(folder / "report.json")["steps"]
        trained = {step["name"]: step["fingerprint"] for step in steps}
        scored = next(step for step in steps if step["name"] == "evaluate")["metrics"]["stage"]
        card = (folder / "model_card.md").read_text(encoding="utf-8")
    except (OSError, SliceWiseError, KeyError, TypeError, StopIteration):
        return None
    same = trained.get(f"train.{checkpoint.stage}") == checkpoint.fingerprint
    return card if same and scored == checkpoint.stage else None


def _short_card(checkpoint: Checkpoint) -> str:
    front_matter = ModelCardData(
        language="en",
        license="mit",
        library_name="slicewise",
        pipeline_tag="image-segmentation" if checkpoint.tasks.segmentation else "image-classification",
        tags=[*checkpoint.tasks.names, *(["synthetic-data"] if checkpoint.synthetic else [])],
    )
    return f"---\n{front_matter.to_yaml()}\n---\n\n" + "\n\n".join(_paragraphs(checkpoint))


def _paragraphs(checkpoint: Checkpoint) -> Iterator[str]:
    tasks = checkpoint.tasks
    yield f"# SliceWise model ({checkpoint.data_name}, {checkpoint.stage})"
    yield f"> {NOTICE}"
    if checkpoint.synthetic:
        yield f"> **Synthetic data.** {SYNTHETIC_WARNING}"
    yield (
        "> **Not evaluated.** There are no scores on test patients. The validation patients also selected "
        "the epoch: their scores are too good."
    )
    if tasks.segmentation:
        yield f"Segments {', '.join(tasks.segmentation.classes)}."
    if tasks.classification:
        yield f"Classifies slices into {', '.join(tasks.classification.classes)}."
    preprocessing = checkpoint.preprocessing
    yield (
        f"Input: {len(preprocessing.channels)} channels ({', '.join(preprocessing.channels)}), absent ones "
        f"are 0; intensities `{preprocessing.intensity}`; {preprocessing.image_size} × "
        f"{preprocessing.image_size} pixels. Network: {checkpoint.model.architecture} with the encoder "
        f"{checkpoint.model.encoder}."
    )
    yield "## Validation"
    yield "\n".join(["| score | value |", "| --- | ---: |", *_rows(checkpoint)])


def _rows(checkpoint: Checkpoint) -> Iterator[str]:
    for name, value in checkpoint.metrics.items():
        yield f"| {name} | {value:.3f} |"


def describe_licence(checkpoint: Checkpoint) -> str:
    """Return what holds for the program, and what for the weights."""
    origin = "generated data" if checkpoint.synthetic else f"the data `{checkpoint.data_name}`"
    terms = (
        "" if checkpoint.synthetic else ", whose own terms may restrict the use of what was learned from it"
    )
    return f"SliceWise {__version__} has the MIT licence. The weights were learned from {origin}{terms}."
