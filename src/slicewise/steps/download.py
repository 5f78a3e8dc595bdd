"""Data sets on disk: downloaded or generated where they are missing, then found, checked and listed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config, SourceSettings
from slicewise.core.files import write_text
from slicewise.data.cases import CaseFiles
from slicewise.data.index import CaseIndex
from slicewise.data.problems import Problem, describe_problems
from slicewise.data.sources import open_source
from slicewise.engine.step import Context, Input, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.workflow.demand import download_demand
from slicewise.workflow.participants import (
    INDEX_NAME,
    external_inputs,
    select_phantom_patients,
    source_root,
    split_inputs,
    unused_split_keys,
)
from slicewise.workflow.settings import select_settings

_HOMES = {"index": "data/index"}


def _settings(config: Config) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, source in config.data.sources.items():
        key = f"data.sources.{name}"
        # A configured folder counts by its content, not by its path; then Kaggle's name does not matter.
        unread = (f"{key}.path", *([f"{key}.kaggle"] if source.path else []))
        settings |= select_settings(config, key, without=unread)
    if _generates_on_demand(config):  # the participants decide what is on disk
        scale = ("scale.fraction", "scale.min_patients", "scale.num_patients")
        settings |= select_settings(config, *scale, "split", without=unused_split_keys(config))
    return settings


def _generates_on_demand(config: Config) -> bool:
    return any(source.on_demand for source in config.data.sources.values())


def _run(context: Context[Config]) -> Outcome:
    from slicewise.data.cases import check_source
    from slicewise.data.duplicates import drop_repeats

    workspace, sources = context.workspace, [*context.config.data.sources.values()]
    roots = {source.name: source_root(source, workspace) for source in sources}
    known: dict[str, Sequence[str]] = {}
    cases: list[CaseFiles] = []
    problems: list[Problem] = []
    for settings in sources:
        root = roots[settings.name]
        taken, discovery_problems = _fetch(context, settings, root, known)
        usable, source_problems = check_source(settings.name, root, taken, discovery_problems)
        cases += usable
        problems += source_problems
    cases, repeated = drop_repeats(cases, sources)
    problems += repeated
    index = CaseIndex.of(roots, cases, problems, known)
    folder = context.out("index")
    index.write(folder / INDEX_NAME, workspace.root)
    write_text(folder / "problems.txt", index.report())
    counts = {
        name: {
            "known": len(groups),
            "cases": sum(case.key.source == name for case in cases),
            "patients": len({case.group for case in cases if case.key.source == name}),
        }
        for name, groups in index.known.items()
    }
    left_out = sum(problem.severity == "error" for problem in problems)
    return Outcome(
        metrics={"sources": counts, "num_problems": len(problems), "num_left_out": left_out},
        notes=(describe_problems(problems).rstrip(),) if problems else (),
        shared=tuple(path for case in cases for path in case.files if path.is_relative_to(workspace.root)),
    )


def _fetch(
    context: Context[Config], settings: SourceSettings, root: Path, known: dict[str, Sequence[str]]
) -> tuple[list[CaseFiles], list[Problem]]:
    """Download or generate what is missing of a source; return its cases that take part, and problems."""
    source = open_source(settings)
    groups = source.known_groups() if settings.path is None else ()
    selected = select_phantom_patients(context.config, settings, groups) if groups else frozenset()
    if groups:
        known[settings.name] = groups
    if settings.path is None:
        faulty = [path for path in context.faulty if path.is_relative_to(root)]
        source.fetch(root, selected, faulty, context.config.runtime)
    cases, problems = source.discover(root)
    return [case for case in cases if not groups or case.group in selected], problems


def _question(config: Config, workspace: Workspace) -> str | None:
    """Return the question before existing data is checked again; phantom patients are only ever added."""
    roots = [
        source_root(source, workspace)
        for source in config.data.sources.values()
        if not source.is_generated and not source.path
    ]
    present = [root for root in roots if root.is_dir() and any(root.iterdir())]
    if not present or workspace.home_receipt(DOWNLOAD) is None:
        return None
    names = " and ".join(workspace.relative(root) for root in present)
    return f"{names} exists. List and check the data again (complete data is not downloaded again)?"


def _inputs(config: Config) -> Mapping[str, Input]:
    # A split file decides which patients are generated, as the scale does.
    return {**external_inputs(config), **(split_inputs(config) if _generates_on_demand(config) else {})}


DOWNLOAD: Step[Config] = Step(
    name="download",
    run=_run,
    settings=_settings,
    homes=_HOMES,
    group="data",
    inputs=_inputs,
    product=(INDEX_NAME,),
    question=_question,
    demand=download_demand,
    version=7,
)
