"""What a backbone computes from its parameters once: the fused copy, and the form of its head."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import nn

from wsolviz.backends.fast import accelerate, full_precision
from wsolviz.backends.heads import Head, gap_deviation, noise_like

if TYPE_CHECKING:
    from wsolviz.backends.base import Backbone

# A share of the logits' scale: what float32 leaves after a hundred layers, and far below the 0.6
# to 0.8 that a head folded wrongly is off by.
EXACT_TOLERANCE = 1e-4

_logger = logging.getLogger(__name__)

Fingerprint: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Derived:
    """What is computed from the parameters, and computed anew when they change.

    Attributes:
        fingerprint: of the parameters and buffers that it was computed from.
        fast: the fused copy, which gives the same map and logits, or the module itself.
        head: the head in its known form, None where that form does not hold.
        deviation: `gap_deviation` of the form that was found, None where none was.
        num_classes: K.
    """

    fingerprint: Fingerprint
    fast: nn.Module
    head: Head | None
    deviation: float | None
    num_classes: int


def derive(backbone: Backbone) -> Derived:
    """Fuse the network, find its head's form, and measure on noise whether that form holds."""
    generator = torch.Generator().manual_seed(0)
    size = backbone.preprocessing.size
    images = torch.randn(1, 3, *size, generator=generator).to(backbone.device)
    fast = _fast_copy(backbone, images)
    with full_precision(backbone.device):
        activation, logits = backbone.forward(backbone.module, images)
        head = backbone.find_head(activation)
        deviation = None
        if head is not None:
            noise = noise_like(activation, generator)
            noise_logits = backbone.forward_head(backbone.module, noise)
            deviation = max(
                gap_deviation(head, activation, logits),
                gap_deviation(head, noise, noise_logits),
            )
            head = head if deviation <= EXACT_TOLERANCE else None
    return Derived(backbone.fingerprint, fast, head, deviation, logits.shape[1])


def _fast_copy(backbone: Backbone, images: torch.Tensor) -> nn.Module:
    """The fused copy, or the module itself where it cannot be fused.

    A network may read the options of its layers, or call them in ways of its own, which a fused
    layer cannot all foresee; it should run slowly then rather than not at all.
    """
    try:
        with backbone.autocast():  # weights are packed in the type of the passes to come
            return accelerate(backbone.module, images, backbone.forward)
    except (AttributeError, TypeError, IndexError, AssertionError, RuntimeError) as error:
        _logger.warning("%s stays unfused: %s", backbone.name, error)
        return backbone.module
