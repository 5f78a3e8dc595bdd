"""How large the benchmarks are: as published, or tiny enough for a test."""

from dataclasses import dataclass, replace

CPU = "runtime.device=cpu"


@dataclass(frozen=True)
class Size:
    """Attributes:
    patients: virtual patients to preprocess and to train on.
    repeats: counted rounds of each pair.
    iterations: training batches of a round.
    starts: counted rounds of whole processes.
    loader_workers: processes of the per-file loader; the fastest number counts.
    overrides: on top of configs/.
    accuracy: the same for the cross-validation that is compared with a plain script.
    curve: besides, for the curve: one epoch would be one point of it.
    largest_model: whether to measure the model of the largest mode, too.
    neighbours: numbers of other programs that run beside a training step.
    window: seconds of one measurement beside them.
    listed: tiny patients to list and check.
    """

    patients: int
    repeats: int
    iterations: int
    starts: int
    loader_workers: tuple[int, ...]
    overrides: tuple[str, ...]
    accuracy: tuple[str, ...]
    curve: tuple[str, ...] = ()
    largest_model: bool = True
    neighbours: tuple[int, ...] = (0, 1, 3)
    window: float = 10.0
    listed: int = 2000

    def with_threads(self, number: int) -> "Size":
        """Return a copy with `number` threads for training; 0 changes nothing."""
        extra = (f"runtime.num_threads={number}",) if number else ()
        return replace(self, overrides=self.overrides + extra, accuracy=self.accuracy + extra)


FULL = Size(
    patients=2,
    repeats=9,
    iterations=8,
    starts=7,
    loader_workers=(0, 2),
    overrides=(CPU,),
    accuracy=(CPU, "data.sources.volumes.phantom_patients=15", "data.sources.pictures.phantom_pictures=40"),
    curve=("stages.seg_warmup.epochs=5",),
)

SMALL_MODEL = (
    "preprocessing.image_size=32",
    "model.encoder=tu-test_resnet",  # timm's model for tests: 0.2 M parameters
    "model.encoder_weights=null",
    "model.encoder_depth=3",
    "training.batch_size=4",
)

TINY = Size(
    patients=1,
    repeats=1,
    iterations=1,
    starts=1,
    loader_workers=(0,),
    overrides=(CPU, "runtime.num_threads=1", *SMALL_MODEL),
    accuracy=(CPU, "runtime.num_threads=1", *SMALL_MODEL),
    largest_model=False,
    neighbours=(0, 1),
    window=0.05,
    listed=3,
)
