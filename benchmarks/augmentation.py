"""Cost of augmentation as a share of a training step on the same batch."""

import torch

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, share
from benchmarks.training import OurEpochs, training_environment
from slicewise.config.schema import Training
from slicewise.data.loading.augment import apply_augmentation, draw_augmentation
from slicewise.data.loading.dataset import Batch
from slicewise.training.learner import encode_targets

NAME = "augmentation"
AIM = Aim("<=", 0.07)


def run(bench: Bench) -> list[Row]:
    """Time drawing and applying the augmentation against forward, backward and step, alternately."""
    training = bench.config.training
    with training_environment(bench.config):
        ours = OurEpochs(bench)
        batch = ours.batch()
        learner = ours.run.learner
        batch = encode_targets(batch, learner.model.tasks)
        ready = batch.to(learner.device, training.channels_last)

        def step() -> None:
            learner.accumulate(ready, 1)
            learner.step(0)

        rounds = bench.size.repeats * bench.size.iterations
        seconds = alternate({"ours": lambda: _augment(batch, training), "step": step}, rounds)
    what = "augmentation of a batch, against a step without it"
    return [share(NAME, what, "ms", seconds["ours"], seconds["step"], AIM)]


def _augment(batch: Batch, training: Training) -> None:
    changes = draw_augmentation(training.augmentation, training.modality_dropout, batch.presence, seed=0)
    apply_augmentation(batch, changes).to(torch.device("cpu"), training.channels_last)
