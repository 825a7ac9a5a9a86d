"""The network's head in a known form: what lies between the map it averages and its logits.

With f the map that the network averages, v = mean_hw f its pooled vector and (W, b) a linear map:

- nothing but linear layers behind the pooling: logits = W·v + b, and f itself is the feature map;
- a LayerNorm behind the pooling: logits = W·(γ·(v − mean_c v)/σ + β) + b with
  σ = sqrt(var_c(v) + eps). Since σ is one number an image, γ·(f − mean_c f)/σ averages to the
  normed vector, and the fold is exact;
- a BatchNorm before or behind the pooling, which in eval mode is affine in each channel: averaging
  and it may change places, and the normed map is the feature map.

`head_search.find_head` tells them apart. What it finds is a claim about constant maps only; whether
the head averages the map at all is for `gap_deviation` to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from wsolviz.types import Space

# Below this share of the logits, what the map adds to the bias drowns in float32 rounding, and a
# deviation relative to it would measure the rounding.
SMALLEST_SCALE = 1e-2


@dataclass(frozen=True)
class ChannelNorm:
    """A norm over the channels of the pooled vector; (C,) each, `centred` False for an RMSNorm."""

    gamma: torch.Tensor
    beta: torch.Tensor
    eps: float
    centred: bool = True

    def fold(self, activation: torch.Tensor) -> torch.Tensor:
        """γ·(f − mean_c f)/σ of a (B,C,h,w) map: its mean over h×w is the norm without β."""
        centred = activation - activation.mean(dim=1, keepdim=True) if self.centred else activation
        pooled = centred.mean(dim=(2, 3), keepdim=True)
        sigma = (pooled.square().mean(dim=1, keepdim=True) + self.eps).sqrt()
        return centred * (self.gamma[None, :, None, None] / sigma)


@dataclass(frozen=True)
class PositionNorm:
    """A norm with fixed statistics, x·scale + shift in each channel; (C,) each."""

    scale: torch.Tensor
    shift: torch.Tensor

    @property
    def beta(self) -> torch.Tensor:
        """0 (C,): what the norm adds to every position stands in the map already."""
        return torch.zeros_like(self.shift)

    def fold(self, activation: torch.Tensor) -> torch.Tensor:
        """The normed map of a (B,C,h,w) map."""
        return activation * self.scale[:, None, None] + self.shift[:, None, None]


@dataclass(frozen=True)
class HeadLayers:
    """The layers of a head: the classifier, and the norm before it or None."""

    classifier: nn.Module
    norm: nn.Module | None = None


@dataclass(frozen=True)
class Head:
    """A linear classifier behind global average pooling, with at most one norm between.

    Attributes:
        weight: (K,C).
        bias: (K,).
        norm: between the map and the classifier, or None.
        source: "classifier" where weight and bias are those of the network's own last layer,
            "probed" where several layers (such as the two heads of a distilled network) make one
            affine map, and these are its matrix and its value at 0.
        layers: the layers that norm and classifier were read from, where each is one.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    norm: ChannelNorm | PositionNorm | None = None
    source: Literal["classifier", "probed"] = "classifier"
    layers: HeadLayers | None = None

    @property
    def form(self) -> str:
        """The head in words, for tables and views."""
        layers = "linear" if self.source == "classifier" else "affine layers"
        if self.norm is None:
            return layers
        if isinstance(self.norm, PositionNorm):
            return f"BatchNorm, {layers}"
        return f"{'LayerNorm' if self.norm.centred else 'RMSNorm'}, {layers}"

    def live(self) -> Head:
        """The same head by its layers' parameters as they are now; differentiable in them.

        Raises:
            ValueError: several layers make the affine map, so that there is no one weight to read.
        """
        if self.layers is None:
            raise ValueError(
                "The classifier's weight is the sum of several layers' (such as the two heads of a "
                "distilled network), which cannot be trained as one; take a network with one."
            )
        norm = self.norm
        if isinstance(norm, ChannelNorm):
            norm = channel_norm_of(self.layers.norm, self.weight, norm.centred)
        elif norm is not None:
            norm = position_norm_of(self.layers.norm)
        weight, bias = affine_of(self.layers.classifier)
        return replace(self, weight=weight, bias=bias, norm=norm)

    def features(
        self, activation: torch.Tensor, space: Space
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """feature_map (B,C,h,w), weight (K,C) and bias (K,) in one space."""
        if space == "pre_norm" or self.norm is None:
            return activation, self.weight, self.bias
        return self.norm.fold(activation), self.weight, self.bias + self.weight @ self.norm.beta


def gap_deviation(head: Head, activation: torch.Tensor, logits: torch.Tensor) -> float:
    """Largest |mean_hw(feature_map) @ weight.T + bias − logits| over the logits' scale.

    The scale is the smaller of max |logits| and max |logits − bias|: next to a large bias, a wrong
    weight would vanish in the first. A head whose weight is zero has deviation 0, rightly: its CAM
    is zero and the logits are its bias. NaN counts as infinite.
    """
    # Double precision, so that the network's own float32 operations are not simply done again;
    # on the CPU, because not every device has it.
    feature_map, weight, bias = (t.cpu().double() for t in head.features(activation, "logit"))
    logits = logits.cpu().double()
    error = (feature_map.mean(dim=(2, 3)) @ weight.T + bias - logits).abs().max()
    size = logits.abs().max()
    scale = torch.minimum(size, (logits - bias).abs().max()).maximum(SMALLEST_SCALE * size)
    deviation = error / scale.clamp_min(torch.finfo(logits.dtype).tiny)
    return float(deviation.nan_to_num(nan=torch.inf))


def noise_like(activation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal noise about the channel means of a map.

    A network with random weights may give a map that hardly differs from place to place, and on
    such a map every pooling looks like an average.
    """
    noise = torch.randn(activation.shape, generator=generator).to(activation)
    return activation.mean(dim=(2, 3), keepdim=True) + activation.std() * noise


def affine_of(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (K,C) and bias (K,) of a linear layer or 1×1 convolution."""
    weight = layer.weight.flatten(1)
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias


def channel_norm_of(layer: Any, vectors: torch.Tensor, centred: bool) -> ChannelNorm:
    """A LayerNorm, or an RMSNorm where `centred` is False, over vectors (B,C)."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    gamma = torch.ones_like(vectors[0]) if weight is None else weight
    beta = torch.zeros_like(vectors[0]) if bias is None else bias
    return ChannelNorm(gamma, beta, layer.eps, centred)


def position_norm_of(layer: Any) -> PositionNorm:
    """A BatchNorm by its running statistics."""
    scale = (layer.running_var + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight
    shift = -layer.running_mean * scale
    return PositionNorm(scale, shift if layer.bias is None else shift + layer.bias)
