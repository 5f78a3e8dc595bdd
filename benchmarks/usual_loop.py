"""Our training against the usual loop: fp32, and a loader that opens a file per slice."""

from contextlib import ExitStack
from statistics import median

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, throughput
from benchmarks.training import OurEpochs, training_environment
from benchmarks.usual_data import FileDataset, write_files
from benchmarks.usual_process import UsualTraining

NAME = "usual_loop"
AIM = Aim(">=", 2)


def run(bench: Bench) -> list[Row]:
    """Time our epochs and the usual ones alternately; the fastest number of loader processes counts."""
    config, size = bench.config, bench.size
    files = FileDataset(write_files(bench.slices, bench.folder / "files"), config.training.augmentation)
    with training_environment(config), ExitStack() as stack:
        ours = OurEpochs(bench)
        usual = {
            f"{workers} workers": stack.enter_context(UsualTraining(config, files, size.iterations, workers))
            for workers in size.loader_workers
        }
        epochs = {name: training.train_epoch for name, training in usual.items()}
        seconds = alternate({"ours": ours.train_epoch, **epochs}, size.repeats)
    best = min(usual, key=lambda name: median(seconds[name]))
    what = f"training, against fp32 with a loader of a file per slice ({best})"
    return [throughput(NAME, what, ours.num_images, seconds["ours"], seconds[best], AIM)]
