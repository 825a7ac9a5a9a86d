"""Which layer feeds which other layer and nothing else: what fusing two layers has to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

Forward = Callable[[nn.Module, torch.Tensor], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Dataflow:
    """What one forward pass showed; layers go by their qualified names.

    Attributes:
        outputs: what the pass gave.
        input_shapes: of each observed layer that was called.
        sole_consumers: the layer that takes a layer's output, where both are called once and
            nothing else, layer or function, takes that output.
    """

    outputs: tuple[torch.Tensor, ...]
    input_shapes: dict[str, torch.Size]
    sole_consumers: dict[str, str]

    @cached_property
    def sole_makers(self) -> dict[str, str]:
        """`sole_consumers` the other way round."""
        return {consumer: maker for maker, consumer in self.sole_consumers.items()}

    def weighted_layers(self, module: nn.Module) -> list[str]:
        """The convolutions and linear layers that were called, in that order."""
        kinds = (nn.Conv2d, nn.Linear)
        return [name for name in self.input_shapes if isinstance(module.get_submodule(name), kinds)]


def trace(
    module: nn.Module, images: torch.Tensor, forward: Forward, kinds: tuple[type[nn.Module], ...]
) -> Dataflow:
    """Run the network once and see where the outputs of its layers go.

    Args:
        module: in eval mode.
        images: (B,3,H,W).
        forward: how to run the module on the images.
        kinds: the types of layer to observe.
    """
    watch = _Watch()
    with ExitStack() as hooks:
        for name, layer in module.named_modules():
            if isinstance(layer, kinds):
                hooks.callback(layer.register_forward_pre_hook(partial(watch.enter, name)).remove)
                hooks.callback(layer.register_forward_hook(partial(watch.leave, name)).remove)
        with watch:
            outputs = tuple(forward(module, images))
    return Dataflow(outputs, watch.input_shapes, watch.sole_consumers())


@dataclass
class _Watch(TorchFunctionMode):
    """Counts how often each observed layer's output is used, by function calls of any kind."""

    makers: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    uses: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    consumers: dict[str, str] = field(default_factory=dict)
    input_shapes: dict[str, torch.Size] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        results = list(_tensors(result))
        if results or result is None:  # a shape, a dtype or a flag is no use of the values
            for tensor in _tensors((args, kwargs)):
                if tensor in self.makers:
                    self.uses[self.makers[tensor]] += 1
        for tensor in results:  # written in place, it is no longer what the layer gave
            if tensor in self.makers:
                del self.makers[tensor]
        return result

    def enter(self, name: str, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self.calls[name] += 1
        if args and isinstance(args[0], torch.Tensor):
            self.input_shapes[name] = args[0].shape
            if args[0] in self.makers:
                self.consumers[self.makers[args[0]]] = name

    def leave(self, name: str, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, torch.Tensor):
            self.makers[output] = name

    def sole_consumers(self) -> dict[str, str]:
        return {
            maker: consumer
            for maker, consumer in self.consumers.items()
            if self.uses[maker] == self.calls[maker] == self.calls[consumer] == 1
        }


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
