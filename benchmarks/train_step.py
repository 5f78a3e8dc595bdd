"""Cost of loading, augmentation and logging: our epoch against bare steps on a resident batch."""

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, throughput
from benchmarks.training import BareSteps, OurEpochs, training_environment

NAME = "train_step"
AIM = Aim(">=", 0.93)


def run(bench: Bench) -> list[Row]:
    """Time epochs of a few batches and as many bare steps alternately."""
    with training_environment(bench.config):
        ours = OurEpochs(bench)
        bare = BareSteps(bench.config, ours.batch())
        seconds = alternate(
            {"ours": ours.train_epoch, "bare": lambda: bare.train(bench.size.iterations)}, bench.size.repeats
        )
    what = "training through the data path, against bare steps on one batch"
    return [throughput(NAME, what, ours.num_images, seconds["ours"], seconds["bare"], AIM)]
