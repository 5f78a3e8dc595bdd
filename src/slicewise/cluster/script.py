"""The batch script of a group of jobs."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from slicewise.cluster.plan import Group, PlanFolder
from slicewise.config.schema.cluster import Cluster, JobResources


def render_script(folder: PlanFolder, group: Group, source: Path, cluster: Cluster, digest: str) -> str:
    """Return the script of a group. Its jobs run the copy `source`, and refuse a plan with another digest."""
    of_kind = {"data": cluster.data, "train": cluster.train, "evaluate": cluster.evaluate}
    root, log = folder.workspace.root, f"{folder.logs / group.name}-%a.log"
    words = ["job", str(root), str(folder.number), digest, group.name]
    return _render(folder.slurm_name(group.name), words, log, root, source, cluster, of_kind[group.resources])


def render_call(
    name: str, words: Sequence[str], log: Path, root: Path, source: Path, cluster: Cluster
) -> str:
    """Return the script of a call, see `slurm_calls`, with what a training asks for."""
    return _render(name, ["slurm_calls", *words], str(log), root, source, cluster, cluster.train)


def _render(
    name: str,
    words: Sequence[str],
    log: str,
    root: Path,
    source: Path,
    cluster: Cluster,
    resources: JobResources,
) -> str:
    """Return a script that runs a module of `slicewise.cluster` with arguments, and the index of the task."""
    command = [*shlex.split(cluster.container or ""), cluster.python or sys.executable]
    command += ["-P", "-m", f"slicewise.cluster.{words[0]}", *words[1:]]
    return _template().render(
        options=[
            f"--job-name={name}",
            f"--output={log}",
            "--open-mode=append",
            *_options(cluster, resources),
        ],
        modules=shlex.join(cluster.modules),
        source=str(source),
        cpus=resources.cpus,
        restarts=cluster.restarts,
        workspace=str(root),
        command=shlex.join(command),
    )


def _options(cluster: Cluster, resources: JobResources) -> Iterator[str]:
    """Yield the options of sbatch that the settings ask for."""
    yield "--requeue"
    yield "--kill-on-invalid-dep=yes"
    yield "--nodes=1"
    yield "--ntasks=1"
    yield f"--cpus-per-task={resources.cpus}"
    yield f"--time={resources.minutes}"
    yield f"--signal=B:USR1@{cluster.grace_seconds}"
    if resources.memory_mib:
        yield f"--mem={resources.memory_mib}M"
    if resources.gpus:
        yield f"--gres=gpu:{resources.gpus}"
    if partition := resources.partition or cluster.partition:
        yield f"--partition={partition}"
    if cluster.account:
        yield f"--account={cluster.account}"
    yield from cluster.options


@cache
def _template() -> Template:
    environment = Environment(  # noqa: S701, it renders no HTML
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["quote"] = shlex.quote
    return environment.get_template("job.sh.j2")
