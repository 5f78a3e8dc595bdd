"""The report of a run: the sections of its page and of its text, from the files of the evaluation."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from slicewise.config.export import to_yaml
from slicewise.core.files import read_json
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.report import Block, Code, Figure, Notice, Report, Section, Table, Text, number
from slicewise.domain.tables import ComparisonRow, PatientRow, TraitRow, plural, read_rows
from slicewise.domain.wording import is_of_pictures
from slicewise.evaluation.comparison import describe_intervals, gain_text, is_zero, to_table
from slicewise.evaluation.report import CLASSES_FIGURE, SourceScores, source_scores
from slicewise.metrics.table import METRICS, score_key, score_label
from slicewise.reporting.external import describe_test, differences
from slicewise.reporting.patients import LINKS, MAX_PATIENTS, patients
from slicewise.reporting.run import (
    ResultFolders,
    RunInfo,
    collect_warnings,
    selected_settings,
)
from slicewise.reporting.tables import split_table, training_table
from slicewise.reporting.thresholds import thresholds

MAX_GRADCAM_PAGES: Final = 4
_SCORE_FIGURES: Final = {
    "confusion_matrix": (CLASSIFICATION, "Confusion matrices of the slices, per source"),
    "metric_distribution": (SEGMENTATION, "Overlap of the masks of each test patient"),
    "roc_curve": (CLASSIFICATION, "ROC curves of the slices, with operating points"),
    "reliability_diagram": (CLASSIFICATION, "Reliability before and after calibration"),
}
"""The task of each figure, and its caption"""
_ROC_CURVES: Final = "ROC curve of each class against the others"


def build_report(run: RunInfo, folders: ResultFolders) -> Report:
    """Return the report: the same for the same run and files."""
    metrics = read_json(folders.evaluation / "metrics.json")
    sources = source_scores(metrics)
    selected = selected_settings(metrics)
    tested = "slice" if "slice_classes" in metrics else "patient"
    sections: list[tuple[str, str, Iterable[Block]]] = [
        ("Summary", "Summary", _summary(run, metrics, sources, folders)),
        ("Differences from the training data", "Differences", differences(folders)),
        ("Training", "Training", _training(run, folders)),
        ("Scores on the test patients", "Scores", _scores(metrics, sources, folders)),
        (f"{selected}, selected on the validation patients", "Thresholds", thresholds(metrics, folders)),
        ("The training stages on the same test slices", "Stages", _stages(run, folders)),
        (f"Every test {tested}, worst first", f"{tested}s".capitalize(), patients(metrics, folders)),
        ("Failures", "Failures", _failures(run, metrics, folders)),
        ("Explanations", "Explanations", _explanations(metrics, folders)),
        ("Fewer modalities", "Modalities", _subsets(folders)),
        ("Provenance", "Provenance", _provenance(run, metrics)),
        ("Reproduce", "Reproduce", _reproduce(run, folders)),
    ]
    built = [Section(title, short, [*blocks]) for title, short, blocks in sections]
    synthetic = " (synthetic data)" if run.synthetic else ""
    title = f"SliceWise report: {run.data_name}{synthetic}, {run.training_mode} training"
    if not folders.stages:
        title = f"SliceWise external test: {run.data_name}{synthetic}"
    version = run.evaluation_step.versions.get("slicewise", "")
    return Report(
        title,
        f"model of stage “{metrics['stage']}”, evaluated {_minute(run.evaluation_step.made_at)}",
        [section for section in built if section.blocks],
        f"SliceWise {version}. For research; not a medical device.",
    )


def _minute(made_at: str) -> str:
    """Return a time of ISO 8601 in UTC as people write it."""
    return f"{made_at[:16].replace('T', ' ')} UTC"


def _summary(
    run: RunInfo, metrics: Mapping[str, Any], sources: list[SourceScores], folders: ResultFolders
) -> Iterator[Block]:
    for headline, explanation in collect_warnings(run, metrics):
        yield Notice(headline, explanation)
    yield from (source.verdict for source in sources)
    yield from _first_figure(metrics, folders)
    unused = describe_test(folders)
    if folders.stages:
        unused = (
            "The test patients were used neither for training nor for any selection in this run; "
            "docs/lab/results.md lists the data on which recipes and defaults were selected."
        )
    yield Text(
        f"{unused} Sources are never averaged. Not a medical device: nothing in this report supports a "
        "decision about a person."
    )


def _first_figure(metrics: Mapping[str, Any], folders: ResultFolders) -> Iterator[Block]:
    """Yield the figure that says most about the model."""
    name = "metric_distribution" if SEGMENTATION in metrics["tasks"] else "confusion_matrix"
    yield Figure(folders.evaluation / f"{name}.png", _SCORE_FIGURES[name][1])


def _training(run: RunInfo, folders: ResultFolders) -> Iterator[Block]:
    if folders.stages:
        yield training_table(run)
    short = {step.name for step in run.steps if step.metrics.get("epochs_run") == 1}
    for name, folder in folders.stages.items():
        if f"train.{name}" not in short:  # the table has the scores of a single epoch
            yield Figure(folder / "curves.png", f"Losses and validation metrics of {name}", wide=True)


def _scores(
    metrics: Mapping[str, Any], sources: list[SourceScores], folders: ResultFolders
) -> Iterator[Block]:
    first = next(block for block in _first_figure(metrics, folders) if isinstance(block, Figure))
    for source in sources:
        yield source.headlines
        yield source.details
        yield from source.classes
        yield from (Text(note, is_note=True) for note in source.notes)
    intervals = metrics["intervals"]
    confidence = f"{intervals['confidence'] * 100:.0f} % intervals"
    yield Text(f"{confidence}: {intervals['method']}; {intervals['samples']} samples.", is_note=True)
    yield from _definitions(metrics)
    if SEGMENTATION in metrics["tasks"]:
        tolerance = f"Surfaces in 3-D; NSD within {metrics['nsd_tolerance_mm']} mm. "
        yield Text(
            f"{'' if is_of_pictures() else tolerance}{metrics['empty_reference_policy']}", is_note=True
        )
    for name, (task, text) in _SCORE_FIGURES.items():
        caption = _ROC_CURVES if name == "roc_curve" and "slice_classes" in metrics else text
        if task in metrics["tasks"] and first.path.stem != name:
            yield Figure(folders.evaluation / f"{name}.png", caption)
    if "classes" in metrics or CLASSIFICATION not in metrics["tasks"]:
        what = "IoU and confusion" if _pixels_are_confused(metrics) else "IoU"
        caption = f"{what} of the classes of pixels, per source"
        yield Figure(folders.evaluation / CLASSES_FIGURE, caption, wide=True)
    if SEGMENTATION in metrics["tasks"]:
        samples = folders.evaluation / "sample_predictions.png"
        yield Figure(samples, "Masks of test patients, best to worst", wide=True)


def _definitions(metrics: Mapping[str, Any]) -> Iterator[Block]:
    """Yield what the scores of this report mean."""
    sections = [part for entry in metrics["sources"].values() for part in entry.values()]
    keys = {key for part in sections if isinstance(part, Mapping) for key in part}
    rows = [
        (metric.label, metric.definition, metric.unit or "–")
        for metric in (METRICS[name] for name in METRICS.names())
        if score_key(metric) in keys or metric.name in keys
    ]
    yield Table(("score", "definition", "unit"), rows, "What the scores mean").without_empty()


def _stages(run: RunInfo, folders: ResultFolders) -> Iterator[Block]:
    if folders.stage_comparison is None or len(folders.stages) < 2:
        return
    rows = read_rows(folders.stage_comparison / "phase_comparison.csv", ComparisonRow)
    zero = [row for row in rows if is_zero(row)]
    yield to_table([row for row in rows if row not in zero]).without_empty()
    for names in dict.fromkeys((row.source, row.variant, row.minus) for row in zero):
        source, variant, minus = names
        equal = [score_label(row.score) for row in zero if (row.source, row.variant, row.minus) == names]
        yield Text(f"{source}: {variant} and {minus} are equal in {', '.join(dict.fromkeys(equal))}.")
    for source, gains in run.gains.items():
        yield Text(f"{source}: {gain_text(run.final_stage, gains)}")
    yield Text(f"{describe_intervals(rows)} Thresholds as configured.", is_note=True)
    yield Figure(folders.stage_comparison / "phase_comparison.png", "The stages compared", wide=True)


def _failures(run: RunInfo, metrics: Mapping[str, Any], folders: ResultFolders) -> Iterator[Block]:
    failures, tasks = run.evaluation_step.metrics["failures"], metrics["tasks"]
    classified = CLASSIFICATION in tasks
    whole_pictures = is_of_pictures() and run.config["preprocessing"]["fit"] != "tile"
    nouns = ("slice",) if whole_pictures else ("slice", "patient")
    counts = [plural(failures[f"num_{noun}s"], noun) for noun in nouns]
    yield Text(
        f"{' and '.join(counts)} failed: {failures['limit']}"
        + (", or, without a reference mask, a misclassified slice." if classified else ".")
    )
    failed = read_rows(folders.failures / "patients.csv", PatientRow)[:MAX_PATIENTS]
    if failed:
        metric = METRICS[failures["metric"]]
        names = ", ".join(
            f"{row.source}/{row.patient} ({metric.label} {number(row.scores[metric.name], 2)})"
            for row in failed
        )
        yield Text(f"Patients that failed: {names}.")
    if not any(failures[f"num_{noun}s"] for noun in ("slice", "patient")):
        return
    yield from _traits(folders)
    yield Figure(folders.failures / "failures.png", "Failures: image, reference, prediction", wide=True)
    if SEGMENTATION in tasks:
        yield Figure(folders.failures / "iou_of_failures.png", "IoU of the failures")
    if classified or _pixels_are_confused(metrics):
        matrices = folders.failures / "confusion_matrices.png"
        of = "" if classified else "the pixels of "
        yield Figure(matrices, f"Confusion matrices of {of}all slices and of the failures")


def _traits(folders: ResultFolders) -> Iterator[Block]:
    """Yield what the failures have in common."""
    rows = [
        (
            *(row.level, row.source, row.trait, number(row.failed, 2), number(row.rest, 2)),
            *(f"{row.effect:+.2f}", row.strength, f"{row.num_failed} / {row.num_rest}"),
        )
        for row in read_rows(folders.failures / "traits.csv", TraitRow)
    ]
    if rows:
        head = ("level", "source", "trait", "failed", "rest", "effect", "strength", "failed / rest")
        yield Table(head, rows, "Traits of the failures, strongest first (medians; shares for binary traits)")
        yield Text(
            "effect: Cliff's delta. Slices of one patient are correlated: with few patients, an effect is "
            "weak evidence.",
            is_note=True,
        )
    else:
        yield Text("No comparison: everything failed, or the failures have nothing in common.")


def _pixels_are_confused(metrics: Mapping[str, Any]) -> bool:
    """Return whether a source has a confusion of the classes of pixels: overlapping ones have none."""
    sections = [entry["segmentation"] or {} for entry in metrics["sources"].values()]
    return any(part.get("all_pixels", {}).get("confusion") for part in sections)


def _explanations(metrics: Mapping[str, Any], folders: ResultFolders) -> Iterator[Block]:
    if CLASSIFICATION not in metrics["tasks"]:
        return
    what = "the predicted class" if "slice_classes" in metrics else "a tumour"
    pages = sorted(folders.gradcam.glob("page_*.png"))
    shown = pages[:MAX_GRADCAM_PAGES]
    more = ""
    if len(pages) > len(shown):
        more = f"{len(shown)} of {len(pages)} pages; the others are in visualizations/multitask_gradcam. "
    yield Text(
        f"Saliency maps: regions that the classification head uses as evidence for {what}. An indication, "
        f"not a proof. {more}Values per slice and method:",
        {"explanations.csv": LINKS["gradcam"]},
    )
    for path in shown:
        text = f"Image, reference mask and saliency maps of each method, {path.stem}"
        yield Figure(path, text, wide=True)
    if (curves := folders.gradcam / "deletion_insertion.png").exists():  # no slice may be labelled tumour
        subject = "Probability" if "slice_classes" in metrics else "Tumour probability"
        yield Figure(curves, f"{subject} while the most salient regions are deleted or inserted")


def _subsets(folders: ResultFolders) -> Iterator[Block]:
    for path in sorted(folders.ablations.glob("*.png")):
        yield Text(
            "The same model with every subset of the modalities:", {"modality_subsets.csv": LINKS["subsets"]}
        )
        yield Figure(path, f"Scores with each subset of the modalities, {path.stem}", wide=True)


def _provenance(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[Block]:
    step = run.evaluation_step
    commit = step.commit or "none: not run from a checkout"
    seeds = ", ".join(f"{key} {value}" for key, value in run.seeds.items())
    facts = {
        "command": step.command or "not recorded",
        "git commit": f"{commit} (with uncommitted changes)" if commit.endswith("-dirty") else commit,
        "configuration": f"{run.config_fingerprint} (SHA-256 of the settings below)",
        "seeds": f"{seeds}, bootstrap {metrics['intervals']['seed']}",
        "versions": ", ".join(f"{name} {version}" for name, version in step.versions.items()),
    }
    yield Table(("", ""), [*facts.items()])
    caption = f"Split, {run.split_origin}: patients, or families of near-identical pictures"
    yield split_table(run, caption)
    steps = []
    for info in run.steps:
        cost = (number(info.seconds, 1), number(info.memory_mib, 0))
        dirty = "-dirty" if (info.commit or "").endswith("-dirty") else ""
        commit = f"{(info.commit or '–')[:12]}{dirty}"
        steps.append((info.name, info.made_at, *cost, info.fingerprint[:12], commit))
    head = ("step", "made at (UTC)", "seconds", "peak MiB", "fingerprint", "commit")
    yield Table(head, steps, "Steps, from their receipts")
    caption = "Merged configuration (runtime and serving do not affect results and are omitted)"
    yield Code(to_yaml(dict(run.config)), caption)


def _reproduce(run: RunInfo, folders: ResultFolders) -> Iterator[Block]:
    yield Text("At the commit above, with the versions of constraints.txt (make run installs them):")
    yield Code(run.reproduce)
    folder = "Replace FOLDER by your copy of the data. " if "FOLDER" in run.reproduce else ""
    yield Text(
        "The same machine gives identical results; another processor or thread count may change the last "
        f"digits. {folder}slicewise verify checks every file against its receipt."
    )
    links = {"report.json": "report.json"}
    if folders.stages:
        links |= {"model card": LINKS["model_card"]}
    if len(folders.stages) > 1:
        links |= {"phase_comparison.csv": LINKS["phases"]}
    for name in ("metrics", "text", "calibration", "failures", "traits"):
        links["failures" if name == "failures" else LINKS[name].rpartition("/")[2]] = LINKS[name]
    yield Text("Beside this page, and in the workspace:", links)
