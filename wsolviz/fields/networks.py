"""Loading networks with trained or with random weights, and naming weights by what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import load_backbone
from wsolviz.fields.request import FieldRequest, WeightsKind

# Functions of torch and torch.nn.init, and methods, that draw, and take a generator.
DRAWS = frozenset(
    [
        "normal_",
        "uniform_",
        "bernoulli_",
        "exponential_",
        "geometric_",
        "log_normal_",
        "cauchy_",
        "random_",
        "normal",
        "kaiming_uniform_",
        "bernoulli",
        "multinomial",
        "rand",
        "randn",
        "randint",
        "randperm",
    ]
)


def load_network(name: str, kind: WeightsKind, request: FieldRequest) -> Backbone:
    """A backbone as a request wants it; random weights are the same for the same seed.

    Raises:
        ValueError: see `load_backbone`.
        FileNotFoundError: trained weights that are not on disk and cannot be fetched.
    """
    if kind == "trained":
        return load_backbone(name, output_stride=request.output_stride, precision=request.precision)
    with _Drawing(request.seed):
        return load_backbone(
            name, None, output_stride=request.output_stride, precision=request.precision
        )


class _Drawing(TorchFunctionMode):
    """Everything that is drawn on the CPU inside, in this thread, follows from the seed.

    It is drawn from a generator of its own. torch's global one serves all threads, and another
    visitor's network that is built meanwhile would draw from it, too.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call what is called, with the generator where it draws."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS and kwargs.get("generator") is None:
            drawn = args[0] if args else kwargs.get("tensor")
            place = drawn.device if isinstance(drawn, torch.Tensor) else kwargs.get("device")
            if torch.device(place or torch.get_default_device()).type == "cpu":
                kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


def weights_digest(backbone: Backbone) -> str:
    """What names the weights: the file's SHA-256, or that of the parameters where there is none."""
    if backbone.weights.sha256 is not None:
        return backbone.weights.sha256
    digest = hashlib.sha256()
    for name, tensor in backbone.module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
