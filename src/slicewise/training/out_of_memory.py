"""A batch that memory cannot hold, on the CPU or on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.core.errors import TrainingError
from slicewise.core.memory import is_out_of_memory


@contextmanager
def explain_out_of_memory(stage: StageName, config: Config) -> Iterator[None]:
    """Raise TrainingError that names stage, sizes and remedy, where memory runs out in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        training, size = config.training, config.preprocessing.image_size
        raise TrainingError(
            f"{stage} ran out of memory with training.batch_size={training.batch_size} slices of "
            f"{size} x {size} ({str(error).splitlines()[0]}); {_advice(config)}"
        ) from error


def _advice(config: Config) -> str:
    training = config.training
    if training.batch_size < 4:  # batch normalisation needs two
        return "two slices do not fit: lower preprocessing.image_size or take a smaller model.encoder"
    return (
        f"set training.batch_size={training.batch_size // 2} with "
        f"training.accumulate={training.accumulate * 2}, as many slices a step, and run again"
    )
