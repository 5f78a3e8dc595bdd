"""Cost of loading, augmentation and logging: our epoch against bare steps on a resident batch."""

from functools import partial

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, throughput
from benchmarks.training import BareSteps, OurEpochs, training_environment

NAME = "train_step"
AIM = Aim(">=", 0.95)


def run(bench: Bench) -> list[Row]:
    """Time epochs of a few batches and as many bare steps alternately; ours clip gradients."""
    with training_environment(bench.config):
        ours = OurEpochs(bench)
        bare = {
            name: BareSteps(bench.config, ours.batch(), clips=clips)
            for name, clips in (("bare steps", False), ("bare steps that clip gradients, too,", True))
        }
        steps = {name: partial(each.train, bench.size.iterations) for name, each in bare.items()}
        seconds = alternate({"ours": ours.train_epoch, **steps}, bench.size.repeats)
    return [
        throughput(
            NAME,
            f"training through the data path, against {name} on one batch",
            ours.num_images,
            seconds["ours"],
            seconds[name],
            AIM,
        )
        for name in bare
    ]
