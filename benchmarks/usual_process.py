"""The usual loop in a process of its own, without the settings that our training makes for its process."""

from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import torch

from benchmarks.training import usual_model, usual_step
from benchmarks.usual_data import FileDataset, collate, make_loader
from slicewise.config.schema import Config


class UsualTraining:
    """Trains an epoch on request; a context manager, which ends the process.

    Args:
        config: model, batch size and threads.
        files: the slices, one file each.
        iterations: batches of an epoch.
        workers: processes of the loader.
    """

    def __init__(self, config: Config, files: FileDataset, iterations: int, workers: int) -> None:
        context = get_context("spawn")
        self._pipe, far_end = context.Pipe()
        arguments = (far_end, config, files, iterations, workers, torch.get_num_threads())
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        far_end.close()

    def train_epoch(self) -> None:
        """Train the next epoch."""
        self._pipe.send("train")
        self._pipe.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join()


def _serve(
    pipe: Connection, config: Config, files: FileDataset, iterations: int, workers: int, num_threads: int
) -> None:
    torch.set_num_threads(num_threads)
    torch.manual_seed(config.seed)
    model, optimizer = usual_model(config)
    training, stage = config.training, config.stages["joint"]
    loader = make_loader(files, training.batch_size, iterations, workers)
    while _is_requested(pipe):
        for parts in loader:
            usual_step(model, optimizer, stage, config, collate(parts, training.modality_dropout))
        pipe.send("done")


def _is_requested(pipe: Connection) -> bool:
    try:
        pipe.recv()
    except EOFError:  # the other end was closed
        return False
    return True
