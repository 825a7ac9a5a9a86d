"""Backbones whose last map does not reach the logits, so that an earlier one is explained.

A transformer with a class token reads its logits from that token alone. After its last block the
patch tokens lead nowhere, and the gradient on them is zero. The last place where they still count
is where the class token last looks at them: the output of the norm before the last attention.

Why behind that norm and not before it: a LayerNorm does not see the scale of its input, so for
each position Σ_c x_c·∂logit/∂x_c = 0 before it (but for eps), and a map of gradient times
activation would vanish. Behind it stand the very values that keys and values are linear in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wsolviz.backends.base import Backbone
from wsolviz.backends.heads import Head
from wsolviz.backends.layout import Layout, infer_layout
from wsolviz.preprocess import Preprocessing

# A max over positions sends its gradient to one of them; what counts everywhere, to all of them.
DENSE = 0.5


@dataclass(frozen=True)
class Place:
    """Where a map is taken: the output of one layer, by its name in the module, and its layout."""

    layer: str
    layout: Layout


class InnerMapBackbone(Backbone):
    """A network whose map is taken at a layer inside; never exact, its weight is the gradient.

    Attributes:
        place: where the map is taken.
    """

    hooks_into_network = True

    def __init__(
        self,
        name: str,
        module: nn.Module,
        preprocessing: Preprocessing,
        place: Place,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, module, preprocessing, **kwargs)
        self.place = place

    @property
    def inexactness(self) -> str:
        """Why `exact` is False."""
        return (
            "the last map does not make the logits alone (a class token, or several branches); "
            f"map and gradient are taken at {self.place.layer}"
        )

    def forward(self, module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The map (B,C,h,w) and the logits (B,K) of one pass."""
        taken: list[torch.Tensor] = []

        def take(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            taken.append(output)

        handle = module.get_submodule(self.place.layer).register_forward_hook(take)
        try:
            logits = module(images)
        finally:
            handle.remove()
        (features,) = taken
        return self.place.layout.to_map(features, _size(images)), logits

    def replay(self, images: torch.Tensor, activation: torch.Tensor) -> torch.Tensor:
        """Logits with other maps put in place; prefix tokens stay what the images make them.

        Args:
            images: (B,3,H,W).
            activation: (N,C,h,w), N = B or B = 1.
        """
        images = images.expand(len(activation), -1, -1, -1)

        def put(_layer: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            prefix = output[:, : self.place.layout.prefix]
            return self.place.layout.from_map(activation.to(output.dtype), prefix)

        with self._lock:
            handle = self.module.get_submodule(self.place.layer).register_forward_hook(put)
            try:
                return self.module(images)
            finally:
                handle.remove()

    def forward_map(self, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(B,3,H,W) to (B,C,h,w), the map at `place`."""
        return self.forward(module, images)[0]

    def forward_head(self, module: nn.Module, activation: torch.Tensor) -> torch.Tensor:
        """Not to be had: from inside, the network goes on only with the image; see `replay`."""
        raise NotImplementedError(f"{self.name}: logits from a map alone; use replay.")

    def find_head(self, activation: torch.Tensor) -> Head | None:
        """None: other blocks lie between the map and the logits."""
        return None


def find_place(
    module: nn.Module,
    images: torch.Tensor,
    output: Callable[[torch.Tensor], torch.Tensor],
    prefix: int | None = None,
) -> Place | None:
    """The last norm of the network behind which every position still counts for the output.

    Args:
        module: the network, its parameters frozen.
        images: (1,3,H,W).
        output: of the network for the images, differentiable; what stands before the classifier
            says more than the logits where the classifier is still zero.
        prefix: how many prefix tokens the network says that it has; None if it does not say.

    Returns:
        None where no norm's output has a place for every part of the image.
    """
    calls: dict[str, list[torch.Tensor]] = {}
    handles = [
        layer.register_forward_hook(_note(calls, name))
        for name, layer in module.named_modules()
        if isinstance(getattr(layer, "eps", None), float) and not any(layer.children())
    ]
    try:
        with torch.enable_grad():
            result = random_projection(output(images.clone().requires_grad_()))
    finally:
        for handle in handles:
            handle.remove()
    # A layer called more than once would need its call named too.
    once = {name: outputs[0] for name, outputs in calls.items() if len(outputs) == 1}
    gradients = torch.autograd.grad(result, list(once.values()), allow_unused=True)
    for (name, features), gradient in reversed(list(zip(once.items(), gradients, strict=True))):
        weight = getattr(module.get_submodule(name), "weight", None)
        channels = features.shape[-1] if weight is None else weight.numel()
        layout = infer_layout(tuple(features.shape), _size(images), channels, prefix)
        if layout is None or gradient is None:
            continue
        if counts_everywhere(layout.to_map(gradient, _size(images))):
            return Place(name, layout)
    return None


def random_projection(values: torch.Tensor) -> torch.Tensor:
    """A number that every value enters with a weight of its own.

    The plain sum would not do: behind a LayerNorm it is the same for every image.
    """
    generator = torch.Generator().manual_seed(0)
    return (values * torch.randn(values.shape, generator=generator).to(values)).sum()


def counts_everywhere(gradient: torch.Tensor) -> bool:
    """Whether a gradient (B,C,h,w) is not zero at most positions."""
    return bool((gradient != 0).any(dim=1).float().mean() > DENSE)


def _note(
    calls: dict[str, list[torch.Tensor]], name: str
) -> Callable[[nn.Module, object, object], None]:
    def note(_layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.requires_grad:
            calls.setdefault(name, []).append(output)

    return note


def _size(images: torch.Tensor) -> tuple[int, int]:
    return images.shape[2], images.shape[3]
