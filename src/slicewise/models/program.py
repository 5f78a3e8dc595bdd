"""A model's forward pass as a list of calls of torch's own functions.

The libraries that build models import every architecture they know, and torchvision with torch's compiler,
which takes as long as torch itself. So a checkpoint also holds the calls of one forward pass. They need torch
alone, and give the same bits since they are the same calls.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slicewise.config.schema.model import TaskName

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

SerializedProgram = dict[str, Any]
"""`size` and `in_channels` of an image; `calls`: [function, arguments, keywords]; `results`: the logits
by task"""

_NAMES: Final[Mapping[str, tuple[Any, str]]] = {
    "functional": (
        nn.functional,
        "adaptive_avg_pool2d avg_pool2d batch_norm conv2d conv_transpose2d dropout dropout2d elu gelu "
        "group_norm hardsigmoid hardswish hardtanh instance_norm interpolate layer_norm leaky_relu linear "
        "max_pool2d pad relu relu6 silu softmax",
    ),
    "torch": (torch, "cat flatten matmul mean relu sigmoid stack tanh"),
    "tensor": (
        Tensor,
        "__getitem__ __iadd__ __rsub__ add add_ chunk contiguous div flatten float matmul mean mul mul_ "
        "permute reshape sigmoid softmax sub sum to transpose unsqueeze view",
    ),
}
_ALLOWED_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    f"{space}.{name}": getattr(owner, name)
    for space, (owner, names) in _NAMES.items()
    for name in names.split()
}
"""What a program may call: it comes from a file, and runs nothing else"""
_BATCHES: Final = (2, 3)
"""Numbers of images; a model whose calls differ between them has no program"""
_MAX_CALLS: Final = 20_000
_MAX_NUMBER: Final = 1 << 16
_MAX_IMAGE_SIZE: Final = 4096
_MAX_CHANNELS: Final = 64
_MAX_ELEMENTS: Final = 1 << 27
"""Elements of one result for one image"""


class _Ref(NamedTuple):
    """The result of call number `call`, or one of several; the inputs are the first two results."""

    call: int
    place: int | None = None


class Program:
    """The calls with the weights in their places; `program(images, presence)` returns the logits by task.

    `serialized` is what `export_program` returned, and `channels` are those of the logits of each task; the
    calls run on the device of the weights.

    Raises:
        ValueError: it is no program, or one that does not fit the weights or tasks.
    """

    def __init__(
        self, serialized: SerializedProgram, weights: Mapping[str, Tensor], channels: Mapping[TaskName, int]
    ) -> None:
        try:
            self.size, self.in_channels = int(serialized["size"]), int(serialized["in_channels"])
            calls, results = serialized["calls"], serialized["results"]
            if not (
                0 < len(calls) <= _MAX_CALLS
                and results.keys() == channels.keys()
                and 0 < self.size <= _MAX_IMAGE_SIZE
                and 0 < self.in_channels <= _MAX_CHANNELS
            ):
                raise ValueError(f"size {self.size}, {len(calls)} calls, results {[*results]}")
            parsed = [
                (
                    _ALLOWED_FUNCTIONS[name],
                    _deserialize(tuple(args), weights),
                    {str(key): _deserialize(value, weights) for key, value in kwargs.items()},
                )
                for name, args, kwargs in calls
            ]
            self._results = {name: _deserialize(results[name], weights) for name in channels}
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        self._calls = parsed
        last_uses: dict[int, int] = {}  # the call after which a result is released
        for number, part in enumerate([*parsed, self._results]):
            refs: list[_Ref] = []
            _replace_refs(part, refs.append)
            last_uses.update(dict.fromkeys((ref.call for ref in refs), number))
        self._released: list[list[int]] = [[] for _ in range(len(parsed) + 1)]
        for result, number in last_uses.items():
            self._released[number].append(result)
        self._check_run(weights, channels)

    def __call__(self, images: Tensor, presence: Tensor) -> dict[TaskName, Tensor]:
        """Return the logits by task; see `MultitaskModel.forward`."""
        values: dict[int, Any] = {0: images, 1: presence}

        def look_up(ref: _Ref) -> Any:
            output = values[ref.call]
            return output if ref.place is None else output[ref.place]

        for number, (function, args, kwargs) in enumerate(self._calls):
            result = function(*_replace_refs(args, look_up), **_replace_refs(kwargs, look_up))
            if isinstance(result, Tensor) and result.numel() > _MAX_ELEMENTS * len(images):
                raise ValueError(f"call {number + 2} gives {result.numel()} numbers")
            values[number + 2] = result
            for done in self._released[number]:
                values.pop(done, None)
        logits: dict[TaskName, Tensor] = _replace_refs(self._results, look_up)
        return logits

    def _check_run(self, weights: Mapping[str, Tensor], channels: Mapping[TaskName, int]) -> None:
        """Run the calls on one empty image, so that misfits are found before predictions rely on them."""
        device = next(iter(weights.values())).device
        images = torch.zeros(1, self.in_channels, self.size, self.size, device=device)
        try:
            with torch.inference_mode():
                outputs = self(images, images[:, :, 0, 0])
                shapes = {name: tuple(output.shape) for name, output in outputs.items()}
        except Exception as error:  # torch's functions raise many kinds on arguments that do not fit
            raise ValueError(f"{type(error).__name__}: {error}") from error
        sides = {"segmentation": (self.size, self.size), "classification": ()}
        if shapes != {name: (1, number, *sides[name]) for name, number in channels.items()}:
            raise ValueError(f"its results have the shapes {shapes}")


def export_program(
    model: "MultitaskModel", size: int, tasks: Collection[TaskName] | None = None
) -> SerializedProgram | None:
    """Return the calls of one forward pass on images of size x size, or None where they cannot be repeated.

    They cannot where the model calls a function that is not allowed, reads tensors that are not in its state,
    or makes other calls for another number of images. The model itself stays as it is. The program gives the
    logits of `tasks`, by default of all.
    """
    chosen = [task for name, task in model.tasks.items() if tasks is None or name in tasks]
    channels = {task.name: task.num_channels for task in chosen}
    in_channels = model.slot_tokens.values.shape[1]
    copied = copy.deepcopy(model).cpu().float().eval().to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        first, second = (
            _record_calls(copied, _example(in_channels, size, batch), channels) for batch in _BATCHES
        )
        if first is None or first != second:
            return None
        inputs = _example(in_channels, size, _BATCHES[0])
        repeated, expected = Program(first, copied.state_dict(), channels)(*inputs), copied(*inputs)
        return first if all(torch.equal(repeated[name], expected[name]) for name in channels) else None


def _record_calls(
    model: nn.Module, inputs: tuple[Tensor, Tensor], tasks: Collection[TaskName]
) -> SerializedProgram | None:
    with _Recorder(model, inputs) as recorder:
        output = model(*inputs, tasks)
    results = {name: recorder.serialize(tensor) for name, tensor in output.items()}
    if not recorder.is_complete:
        return None
    _, in_channels, _, size = inputs[0].shape
    return {"size": size, "in_channels": in_channels, "calls": recorder.calls, "results": results}


def _example(channels: int, size: int, batch: int) -> tuple[Tensor, Tensor]:
    """Return random images and their presence, of which one slot is empty."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels, size, size, generator=draw)
    presence = torch.ones(batch, channels)
    presence[0, -1] = 0
    return images.to(memory_format=torch.channels_last), presence


class _Recorder(TorchFunctionMode):
    """Records every call that returns a tensor."""

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.is_complete = True
        stored = model.state_dict().keys()
        self._known: dict[int, SerializedProgram] = {
            id(tensor): {"weight": name}
            for name, tensor in chain(model.named_parameters(), model.named_buffers())
            if name in stored
        }
        self._known.update({id(tensor): {"input": place} for place, tensor in enumerate(inputs)})
        self._names = {id(function): name for name, function in _ALLOWED_FUNCTIONS.items()}
        self._alive: list[Any] = []  # a tensor that is freed could leave its id to another

    def __torch_function__(
        self, func: Any, _types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        parts = result if isinstance(result, tuple | list) else (result,)
        if any(isinstance(part, Tensor) for part in parts):
            name = self._names.get(id(func))
            self.is_complete &= name is not None
            call = len(self.calls)
            keywords = {key: self.serialize(value) for key, value in kwargs.items()}
            self.calls.append([name, [self.serialize(arg) for arg in args], keywords])
            self._alive.append(result)
            for place, part in enumerate(parts):
                self._known[id(part)] = {"call": call} if part is result else {"call": call, "place": place}
        return result

    def serialize(self, value: Any) -> Any:
        """Return a value as a file holds it; one that a file cannot hold makes the recording incomplete."""
        match value:
            case Tensor() if id(value) in self._known:
                return self._known[id(value)]
            case None | bool() | int() | float() | str():
                return value
            case torch.dtype():
                return {"dtype": str(value).removeprefix("torch.")}
            case slice():
                return {"slice": [self.serialize(part) for part in (value.start, value.stop, value.step)]}
            case tuple():
                return tuple(map(self.serialize, value))
            case list():
                return list(map(self.serialize, value))
        self.is_complete = self.is_complete and value is Ellipsis
        return {"ellipsis": True}


def _deserialize(value: Any, weights: Mapping[str, Tensor]) -> Any:
    """Return an argument that `_Recorder.serialize` wrote; results of calls stay references."""
    if isinstance(value, dict):
        return _deserialize_marked(value, weights)
    if isinstance(value, tuple | list):
        return type(value)(_deserialize(part, weights) for part in value)
    is_modest = isinstance(value, int | float) and abs(value) <= _MAX_NUMBER
    if is_modest or value is None or isinstance(value, str):
        return value
    raise ValueError(f"{value!r:.100} is not an argument")


def _deserialize_marked(value: SerializedProgram, weights: Mapping[str, Tensor]) -> Any:
    """Return the argument that a dictionary stands for."""
    match value:
        case {"weight": name}:
            return weights[name]
        case {"input": (0 | 1) as place}:
            return _Ref(place)
        case {"call": int(call), **rest}:
            return _Ref(call + 2, rest.get("place"))
        case {"dtype": ("float32" | "float16" | "bfloat16" | "int64") as name}:
            return getattr(torch, name)
        case {"slice": [start, stop, step]}:
            return slice(start, stop, step)
        case {"ellipsis": True}:
            return Ellipsis
    raise ValueError(f"{value!r:.100} is not an argument")


def _replace_refs(value: Any, replace: Callable[[_Ref], Any]) -> Any:
    """Return an argument with each reference replaced by what `replace` returns for it."""
    if isinstance(value, _Ref):
        return replace(value)
    if isinstance(value, dict):
        return {key: _replace_refs(part, replace) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_replace_refs(part, replace) for part in value)
    return value
