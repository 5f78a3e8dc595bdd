"""The whole run on one page, and the model card.

Versions, times and commands come from the receipts of the outputs: a page made again has the same bytes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.core.hashing import digest
from slicewise.engine.step import Context, Demand, Outcome, Step
from slicewise.reporting.run import ResultFolders, RunInfo, StepInfo
from slicewise.workflow.settings import reproduce_command, results_config

_DEMAND: Final = Demand(disk_bytes=8 * MIB, memory_bytes=300 * MIB)
"""A page with its pictures, and the libraries that read them"""


def _run(needs: Sequence[str], context: Context[Config]) -> Outcome:
    from slicewise.reporting.report import write_report

    config, config_values = context.config, results_config(context.config)
    steps = {name: _step_info(context, name) for name in needs}
    info = RunInfo(
        training_mode=config.training_mode,
        data_name=config.data.name,
        synthetic=config.data.synthetic,
        config=config_values,
        config_fingerprint=digest(config_values),
        reproduce=reproduce_command(config),
        counts=steps["split"].metrics["counts"],
        steps=tuple(steps.values()),
    )
    folders = ResultFolders(
        evaluation=context.home("evaluate", "evaluation"),
        stage_comparison=context.home("evaluate", "phases"),
        failures=context.home("evaluate", "failures"),
        gradcam=context.home("evaluate", "gradcam"),
        ablations=context.home("evaluate", "ablations"),
        stages={stage: context.home(f"train.{stage}", "checkpoint") for stage in config.stages},
    )
    return Outcome(metrics={"page_bytes": write_report(context.out("report"), info, folders)})


def _step_info(context: Context[Config], name: str) -> StepInfo:
    receipt = context.receipt(name)
    report = receipt.report
    return StepInfo(
        name=name,
        fingerprint=receipt.fingerprint,
        made_at=report.made_at,
        seconds=report.duration_seconds,
        memory_mib=report.peak_memory_mib,
        commit=report.git_commit,
        command=report.command,
        versions=report.versions,
        metrics=report.metrics,
    )


def report(steps: Sequence[str]) -> Step[Config]:
    """Return the step that reports on these steps, the evaluation among them."""
    home = "results/report"
    return Step(
        name="report",
        run=partial(_run, steps),
        settings=lambda config: flatten_dict(results_config(config)),
        needs=tuple(steps),
        homes={"report": home},
        redirects={"results/report.html": f"{home}/report.html"},
        version=13,
        demand=lambda _: _DEMAND,
        group="evaluate",
        highlights={
            f"{home}/report.html": "the report: open it in a browser",
            f"{home}/report.txt": "the same as text",
            f"{home}/model_card.md": "the model card",
        },
    )
