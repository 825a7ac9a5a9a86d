"""The network that a run starts with: its own copy, perhaps with a classifier of other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from training.config import TrainingConfig
from wsolviz.backends.architecture import ARCHITECTURES
from wsolviz.backends.base import Backbone
from wsolviz.backends.checkpoints import read_checkpoint
from wsolviz.backends.loading import load_backbone

# Share of the network's numbers that weights must fill; a file of another network fills far less.
LEAST_FILLED = 0.5


@dataclass(frozen=True)
class Filled:
    """What became of weights that were given to a network.

    Attributes:
        new: the network's tensors that they did not fill, which stay random.
        unused: names in the weights that the network has no place for.
    """

    new: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = []
        if self.new:
            parts.append(f"random: {_listed(self.new)}")
        if self.unused:
            parts.append(f"not used: {_listed(self.unused)}")
        return "; ".join(parts) or "all weights were filled"


@dataclass(frozen=True)
class Classes:
    """What a new classifier tells apart: K classes, and their K names or none."""

    number: int
    names: tuple[str, ...] = ()


def initial_backbone(
    config: TrainingConfig, classes: Classes | None, device: torch.device | str
) -> tuple[Backbone, Filled]:
    """The backbone as training starts, which nobody else holds.

    Args:
        config: see `BackboneConfig`.
        classes: the data's, for a new classifier; None keeps the network's own.
        device: where to put it.

    Raises:
        ValueError: weights that fill less than half of the network, or a name or option that
            `load_backbone` refuses.
        FileNotFoundError: weights that are not there.
    """
    wanted = config.backbone
    torch.manual_seed(config.seed)
    load = partial(load_backbone, device=device, output_stride=wanted.output_stride, shared=False)
    if classes is None:
        if wanted.weights is None:
            raise ValueError(
                "backbone.classes is own, but random weights know no classes; take data."
            )
        return _sized(load(wanted.name, wanted.weights), config), Filled((), ())
    state: Mapping[str, torch.Tensor] = {}
    if wanted.weights == "default":
        state = load(wanted.name).module.state_dict()
    elif wanted.weights is not None:
        state = _read(wanted.name, wanted.weights)
    backbone = load(wanted.name, None, classes.number)
    backbone.class_names = classes.names
    return _sized(backbone, config), _fill(backbone, state)


def _sized(backbone: Backbone, config: TrainingConfig) -> Backbone:
    """The backbone, taking photos of the size and the colours that it is trained with."""
    backbone.preprocessing = config.data.preprocessing(backbone.preprocessing)
    return backbone


def _read(name: str, weights: str) -> Mapping[str, torch.Tensor]:
    state = read_checkpoint(weights)
    return ARCHITECTURES[name].rename(state) if name in ARCHITECTURES else state


def _fill(backbone: Backbone, state: Mapping[str, torch.Tensor]) -> Filled:
    """Copy the tensors whose names and shapes are the network's."""
    own = backbone.module.state_dict()
    fitting = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    filled = sum(tensor.numel() for tensor in fitting.values())
    if state and filled < LEAST_FILLED * sum(tensor.numel() for tensor in own.values()):
        raise ValueError(
            f"The weights for {backbone.name} fit only {len(fitting)} of its {len(own)} tensors; "
            f"the first that are missing: {_listed([n for n in own if n not in fitting])}."
        )
    backbone.module.load_state_dict(fitting, strict=False)
    return Filled(
        tuple(name for name in own if name not in fitting),
        tuple(name for name in state if name not in fitting),
    )


def _listed(names: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
