"""Data sets on disk: fetched or generated where they are not, then found, checked and listed."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config, PictureSource, VolumeSource
from slicewise.core.errors import UsageError
from slicewise.core.files import write_text
from slicewise.domain.labels import LABEL_FORMATS, LabelMap
from slicewise.engine.step import Context, Input, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.workflow.demand import download_demand
from slicewise.workflow.settings import select_settings
from slicewise.workflow.sources import (
    INDEX_NAME,
    external_inputs,
    select_phantom_patients,
    source_layout,
    source_root,
    split_inputs,
    unused_split_keys,
    used_sources,
)

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.data.problems import Problem

_PHANTOM_SEED = 0
"""The virtual patients are a data set: a run's seed does not change who they are."""


def _settings(config: Config) -> dict[str, Any]:
    sources: dict[str, VolumeSource | PictureSource] = {
        "data.volumes": config.data.volumes,
        "data.pictures": config.data.pictures,
    }
    picked: dict[str, Any] = {}
    for key, source in sources.items():
        # A named folder counts by its content, not by where it lies; then Kaggle's name does not matter.
        unread = (f"{key}.path", *([f"{key}.kaggle"] if source.path else []))
        picked |= select_settings(config, key, without=unread)
    if config.data.volumes.kind == "phantom":
        # Virtual patients are made on demand, so who takes part decides what is there.
        picked |= select_settings(
            config, "scale.fraction", "scale.min_patients", "split", without=unused_split_keys(config)
        )
    return picked


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.check import check_cases, require_usable
    from slicewise.data.index import CaseIndex
    from slicewise.data.problems import describe_problems

    config, workspace = context.config, context.workspace
    roots = {source.name: source_root(source, workspace) for source in used_sources(config)}
    known: dict[str, list[str]] = {}
    cases: list[CaseFiles] = []
    problems: list[Problem] = []
    for source in used_sources(config):
        selected_groups = _prepare_source(context, source, roots[source.name], known)
        discovered, discovery_problems = discover_source(source, roots[source.name])
        selected_cases = [
            case for case in discovered if selected_groups is None or case.group in selected_groups
        ]
        usable, faults = check_cases(selected_cases)
        require_usable(
            source.name, roots[source.name], len(selected_cases), usable, [*discovery_problems, *faults]
        )
        cases += usable
        problems += [*discovery_problems, *faults]
    index = CaseIndex.of(roots, cases, problems, known)
    folder = context.out("index")
    index.write(folder / INDEX_NAME, workspace.root)
    write_text(folder / "problems.txt", index.report())
    notes = [describe_problems(problems).rstrip()] if problems else []
    data_files = [path for case in cases for path in case.files if path.is_relative_to(workspace.root)]
    return Outcome(_metrics(index.known, cases, problems), tuple(notes), tuple(data_files))


def _prepare_source(
    context: Context[Config], source: VolumeSource | PictureSource, root: Path, known: dict[str, list[str]]
) -> frozenset[str] | None:
    """Bring a source onto the disk; return the groups to list, or None for all that are found."""
    if source.path:
        return None
    if source.kind != "phantom":
        _fetch(source, root)
        return None
    from slicewise.core.parallel import num_processes
    from slicewise.data.phantom.generation import materialise_patients, materialise_pictures
    from slicewise.data.phantom.patient import patient_name

    config = context.config
    if isinstance(source, PictureSource):
        for path in _faulty_files(context, root):
            path.unlink(missing_ok=True)
        materialise_pictures(root, source.phantom_pictures, _PHANTOM_SEED, config.runtime.num_workers)
        return None
    for path in _faulty_files(context, root):
        shutil.rmtree(path.parent, ignore_errors=True)  # a patient exists whole or not at all
    numbers = {patient_name(number): number for number in range(1, source.phantom_patients + 1)}
    known[source.name] = list(numbers)
    chosen = select_phantom_patients(config, source, numbers)
    workers = num_processes(config.runtime.num_workers, config.runtime.max_worker_memory_mib, len(chosen))
    materialise_patients(root, sorted(numbers[name] for name in chosen), _PHANTOM_SEED, workers)
    return chosen


def _faulty_files(context: Context[Config], root: Path) -> list[Path]:
    return [path for path in context.faulty if path.is_relative_to(root)]


def _fetch(source: VolumeSource | PictureSource, root: Path) -> None:
    from slicewise.data.download.kaggle import fetch_kaggle

    if source.kaggle is None:
        raise UsageError(f"data set {source.name}: neither a path nor a Kaggle name is set; set one of them")
    fetch_kaggle(source.kaggle, root)


def discover_source(
    source: VolumeSource | PictureSource, root: Path
) -> "tuple[Sequence[CaseFiles], Sequence[Problem]]":
    """Find the cases of a source where it lies."""
    from slicewise.data.sources import discover

    if isinstance(source, PictureSource):
        grouped = source.duplicates == "group"
        return discover(
            source_layout(source),
            root,
            source.name,
            source.slot,
            group_duplicates=grouped,
            train_only=source.train_only,
        )
    return discover(
        source_layout(source), root, source.name, mask_name=source.mask, labels=_label_map(source)
    )


def _label_map(source: VolumeSource) -> LabelMap | None:
    """Return what the values of a source's masks mean; None where names and values say it."""
    if isinstance(source.labels, str):
        return LABEL_FORMATS.get(source.labels)
    return tuple((int(value), label) for value, label in source.labels.items())


def _metrics(known: Any, usable: "Sequence[CaseFiles]", problems: "Sequence[Problem]") -> dict[str, Any]:
    sources = {
        name: {
            "known": len(groups),
            "cases": sum(case.key.source == name for case in usable),
            "patients": len({case.group for case in usable if case.key.source == name}),
        }
        for name, groups in known.items()
    }
    left_out = sum(problem.severity == "error" for problem in problems)
    return {"sources": sources, "num_problems": len(problems), "num_left_out": left_out}


def _confirmation(config: Config, workspace: Workspace) -> str | None:
    """Ask before data that is there is fetched again; virtual patients are only ever added to."""
    fetched = [source for source in used_sources(config) if source.kind != "phantom" and not source.path]
    present = [
        root
        for source in fetched
        if (root := source_root(source, workspace)).is_dir() and any(root.iterdir())
    ]
    if not present or workspace.at_home(DOWNLOAD.homes) is None:
        return None
    names = " and ".join(workspace.relative(root) for root in present)
    return f"{names} exists. List and check the data again (what is complete is not fetched again)?"


def _inputs(config: Config) -> Mapping[str, Input]:
    # Who is named decides which virtual patients are generated, as the scale does.
    named = split_inputs(config) if config.data.volumes.kind == "phantom" else {}
    return {**external_inputs(config), **named}


DOWNLOAD: Step[Config] = Step(
    name="download",
    run=_run,
    settings=_settings,
    homes={"index": "data/index"},
    inputs=_inputs,
    product=(INDEX_NAME,),
    question=_confirmation,
    demand=download_demand,
    version=3,
)
