"""Our training beside the loop most people write: fp32, and a loader that opens a file per slice."""

from collections.abc import Callable
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, throughput
from benchmarks.training import OurEpochs, as_in_training, usual_network, usual_step
from benchmarks.usual_data import FileDataset, collated, make_loader, write_files
from slicewise.config.schema import Config

NAME = "usual_loop"
AIM = Aim(">=", 2)


def run(bench: Bench) -> list[Row]:
    """Time our epochs in turn with the usual ones; the best number of loader processes counts."""
    config, size = bench.config, bench.size
    files = FileDataset(write_files(bench.slices, bench.folder / "files"), config.training.augmentation)
    with as_in_training(config):
        ours = OurEpochs(bench)
        usual = {
            f"{workers} workers": _usual_epoch(config, files, size.iterations, workers)
            for workers in size.loader_workers
        }
        seconds = alternate({"ours": ours.train_epoch, **usual}, size.repeats)
    best = min(usual, key=lambda name: median(seconds[name]))
    what = f"training, against fp32 with a loader of a file per slice ({best})"
    return [throughput(NAME, what, ours.num_images, seconds["ours"], seconds[best], AIM)]


def _usual_epoch(config: Config, files: FileDataset, iterations: int, workers: int) -> Callable[[], None]:
    net, optimizer = usual_network(config)
    training, stage = config.training, config.stages.joint
    loader = make_loader(files, training.batch_size, iterations, workers)

    def train_epoch() -> None:
        for parts in loader:
            usual_step(net, optimizer, stage, config, collated(parts, training.modality_dropout))

    return train_epoch
