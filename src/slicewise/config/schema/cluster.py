"""The jobs of a run on a cluster."""

from slicewise.config.schema.base import Count, CountOrZero, Positive, Section


class JobResources(Section):
    """What a job asks for."""

    partition: str | None
    """Partition; null: `cluster.partition`."""
    cpus: Count
    """Processors of a job."""
    memory_mib: CountOrZero
    """Memory of a job; 0: the default of the partition."""
    gpus: CountOrZero
    """GPUs of a job."""
    minutes: Count
    """Time limit of a job. A job that reaches it is queued again and resumes."""


class RaySettings(Section):
    """Ray, which runs jobs on workers that stay; they ask for processors, memory and GPUs as on Slurm."""

    address: str | None
    """`auto`: the Ray that runs on this machine, HOST:PORT: another one. null: start one on this machine, for
    this command alone."""
    bundle_seconds: Positive
    """Shortest estimated time of a task of preprocessing. A task costs a worker that stays little."""


class Cluster(Section):
    """Jobs of `slicewise run --on slurm` and `--on ray`. Changing it reruns nothing."""

    partition: str | None
    """Partition of all jobs; null: the default one."""
    account: str | None
    """Account that is charged; null: the default one."""
    modules: tuple[str, ...]
    """Environment modules that each job loads."""
    container: str | None
    """Command in front of Python, such as `apptainer exec --nv image.sif`; the workspace and the data need
    the same paths inside. null: none."""
    python: str | None
    """Python of the jobs; null: the one that submits them."""
    options: tuple[str, ...]
    """Further options of sbatch, such as `--qos=long`."""
    bundle_seconds: Positive
    """Shortest estimated time of a task of preprocessing on Slurm; it gets so many cases."""
    grace_seconds: Count
    """Time between the warning before the time limit and the limit, for saving."""
    restarts: CountOrZero
    """How often a job starts its program again if that is killed."""
    data: JobResources
    """Jobs of preprocessing and of the split"""
    train: JobResources
    """Jobs of training stages"""
    evaluate: JobResources
    """Jobs of evaluation, report and pooled folds"""
    ray: RaySettings
    """Ray"""
