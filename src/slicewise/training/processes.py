"""Data-parallel training: processes that share the slices of each batch and train as one.

Each process has the model and draws the same batches; it passes its share of the slices forward and backward.
Statistics of batch norms and logits are those of the whole batch, and the gradients of all processes are put
together, so the losses are those of one process but for the rounding of other sums. torch's
DistributedDataParallel takes the mean of losses, which a Dice of the whole batch is not. Stochastic depth
alone draws other numbers. The first process, that of the command, alone writes and prints.
"""

import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import batch_norm, dropout, dropout2d
from torch.overrides import TorchFunctionMode

from slicewise.compute.device import choose_device, choose_precision
from slicewise.config.schema import Config
from slicewise.config.schema.model import TaskName
from slicewise.core.errors import TrainingError, UsageError
from slicewise.core.machine import usable_cores
from slicewise.models.multitask import Logits
from slicewise.training.launch import BACKENDS, Companion, current_launcher, process_group

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if is_shared() else 0


def is_shared() -> bool:
    """Whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()


def shared_config(config: Config) -> Config:
    """Return the configuration with the threads that each process may have.

    Raises:
        UsageError: the device does not exist, or not so often.
    """
    number, device = config.runtime.num_processes, choose_device(config.runtime.device).type
    if number == 1:
        return config
    if device not in BACKENDS or not distributed.is_available():
        raise UsageError(f"runtime.num_processes={number} needs runtime.device=cpu or cuda; set it to 1")
    if device == "cuda" and torch.cuda.device_count() < current_launcher().num_here(number):
        raise UsageError(
            f"runtime.num_processes={number} needs a GPU for each process, and there is "
            f"{torch.cuda.device_count()}; set it to that, or runtime.device=cpu"
        )
    choose_precision(config.training.precision, device)  # which measures once, before they would disturb it
    if config.runtime.num_threads or device != "cpu":
        return config
    threads = max(1, usable_cores() // number)
    return config.model_copy(update={"runtime": config.runtime.model_copy(update={"num_threads": threads})})


@contextmanager
def join_processes(config: Config, work: Callable[[], object]) -> Iterator[None]:
    """Let `runtime.num_processes` processes do the work while the block, which does it too, runs.

    Nothing is started in a process that was itself started here.

    Args:
        config: see `shared_config`.
        work: picklable.

    Raises:
        TrainingError: another process failed.
    """
    number = config.runtime.num_processes
    if number == 1 or is_shared():
        yield
        return
    device = choose_device(config.runtime.device).type
    launcher = current_launcher()
    with launcher.meet(number) as store:
        packed = pickle.dumps(work)
        companions = [launcher.start(each, number, device, packed) for each in range(1, number)]
        try:
            with process_group(0, number, device, store):
                yield
                for companion in companions:
                    companion.failure()
        except RuntimeError as error:  # of the connection, if another process has ended
            if failure := _failure(companions):
                raise TrainingError(failure) from error
            raise
        finally:
            for companion in companions:
                companion.kill()


def _failure(companions: Sequence[Companion]) -> str | None:
    """Return why another process ended early, or None."""
    for place, companion in enumerate(companions, 2):
        which, reason = f"process {place} of {1 + len(companions)}", companion.failure()
        if reason:
            return f"{which}: {reason}"
        if reason is not None:
            return (
                f"{which} was killed, probably for lack of memory; set a smaller training.batch_size or "
                "runtime.num_processes, and run again to resume"
            )
    return None


def shared_forward(model: nn.Module, images: Tensor, presence: Tensor, tasks: Collection[TaskName]) -> Logits:
    """Return the logits of a whole batch, of which this process computes its share.

    Backward, the gradient of each logit is the sum over the processes, which all compute the same loss;
    `average_gradients` then leaves that of one loss.
    """
    if not is_shared():
        logits: Logits = model(images, presence, tasks)
        return logits
    own = _share(len(images))
    with _WholeBatch(own, len(images)):
        parts: Logits = model(images[own], presence[own], tasks)
    return {name: _gather(part.float(), own, len(images)) for name, part in parts.items()}


@torch.no_grad()
def average_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by the mean over the processes."""
    if not is_shared():
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def share_batches(batches: Sequence[T]) -> Sequence[T]:
    """Return the batches of a validation that are this process's."""
    return batches[rank() :: distributed.get_world_size()] if is_shared() else batches


def join_results(results: list[T]) -> list[T]:
    """Return the results of all processes in the order of the batches, from those of `share_batches`."""
    if not is_shared():
        return results
    lists: list[list[T]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(lists, results)
    joined: list[T] = [results[0]] * sum(map(len, lists)) if results else [lists[0][0]] * len(lists[0])
    for number, part in enumerate(lists):
        joined[number :: len(lists)] = part
    return joined


def _share(num_rows: int) -> slice:
    """Return the rows of a batch that are this process's."""
    number, size = rank(), distributed.get_world_size()
    if num_rows < size:
        raise TrainingError(
            f"a batch of {num_rows} slices cannot be shared by runtime.num_processes={size}; lower that, or "
            "use more slices"
        )
    return slice(num_rows * number // size, num_rows * (number + 1) // size)


def _gather(own: Tensor, rows: slice, num_rows: int) -> Tensor:
    """Return [num_rows, ...] with the rows of every process."""
    whole = own.new_zeros((num_rows, *own.shape[1:]))
    whole[rows] = own
    summed: Tensor = _Sum.apply(whole)
    return summed


class _Sum(torch.autograd.Function):
    """The sum over the processes, and of its gradients over them."""

    @staticmethod
    def forward(_context: Any, tensor: Tensor) -> Tensor:
        summed = tensor.contiguous().clone()
        distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed


class _WholeBatch(TorchFunctionMode):
    """Layers that learn treat this process's rows as those of the whole batch.

    Batch norms have the statistics of all rows (torch's SyncBatchNorm has no CPU), dropout draws for all.
    """

    def __init__(self, rows: slice, num_rows: int) -> None:
        super().__init__()
        self._rows, self._num_rows = rows, num_rows

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if named.get("training") and func is batch_norm:
            return _shared_batch_norm(*args, **{name: named[name] for name in named if name != "training"})
        if named.get("training") and func in (dropout, dropout2d):
            whole = torch.ones((self._num_rows, *args[0].shape[1:]), device=args[0].device)
            return args[0] * func(whole, p=named["p"], training=True)[self._rows].to(args[0].dtype)
        return func(*args, **named)


def _shared_batch_norm(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Do what `torch.nn.functional.batch_norm` does in training with the images of all processes."""
    values, size = images.float(), distributed.get_world_size()
    variance, mean = torch.var_mean(values, [0, *range(2, images.ndim)], correction=0)
    own = torch.stack([mean, variance, torch.full_like(mean, values.numel() / len(mean))])[None]
    means, variances, counts = _gather(own, slice(rank(), rank() + 1), size).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / total
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * total / (total - 1), momentum)
    factor = (variance + eps).rsqrt() * (1 if weight is None else weight)
    summand = (0 if bias is None else bias) - mean * factor
    shape = (1, -1, *[1] * (images.ndim - 2))
    return torch.addcmul(summand.view(shape), values, factor.view(shape)).to(images.dtype)
