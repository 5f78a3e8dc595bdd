"""The whole run on one page, and the model card.

Versions, times and commands come from the receipts of the outputs: a page made again has the same bytes.
"""

from collections.abc import Sequence
from functools import partial

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.core.hashing import digest
from slicewise.engine.step import Context, Demand, Outcome, Step
from slicewise.reporting.run import ResultFolders, RunInfo, StepInfo
from slicewise.workflow.settings import recipe_wording, reproduce_command, results_config
from slicewise.workflow.time_plan import planned_config


def _run(needs: Sequence[str], context: Context[Config]) -> Outcome:
    from slicewise.reporting.report import write_report

    config = planned_config(context)
    config_values = results_config(config)
    stages = [stage for stage in config.stages if f"train.{stage}" in needs]  # none in an external test
    steps = []
    for name in needs:
        receipt = context.receipt(name)
        made = receipt.report
        steps.append(
            StepInfo(
                *(name, receipt.fingerprint, made.made_at, made.duration_seconds, made.peak_memory_mib),
                *(made.git_commit, made.command, made.versions, made.metrics),
            )
        )
    info = RunInfo(
        training_mode=config.training_mode,
        data_name=config.data.name,
        synthetic=config.data.synthetic,
        config=config_values,
        config_fingerprint=digest(config_values),
        reproduce=reproduce_command(config) if stages else steps[-1].command or "",
        counts=next(step.metrics["counts"] for step in steps if step.name == "split"),
        steps=tuple(steps),
    )
    folders = ResultFolders(
        evaluation=context.home("evaluate", "evaluation"),
        stage_comparison=context.homes.get(("evaluate", "phases")),
        failures=context.home("evaluate", "failures"),
        gradcam=context.home("evaluate", "gradcam"),
        ablations=context.home("evaluate", "ablations"),
        stages={stage: context.home(f"train.{stage}", "checkpoint") for stage in stages},
    )
    with recipe_wording(config):
        return Outcome(metrics={"page_bytes": write_report(context.out("report"), info, folders)})


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
        version=18,
        # A page with its pictures, and the libraries that read them.
        demand=lambda _: Demand(disk_bytes=8 * MIB, memory_bytes=300 * MIB),
        group="evaluate",
        highlights={
            f"{home}/report.html": "the report: open it in a browser",
            f"{home}/report.txt": "the same as text",
            f"{home}/model_card.md": "the model card",
        },
    )
