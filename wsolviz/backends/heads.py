"""The network's head in a known form: what lies between the map it averages and its logits.

With f the map that the network averages, v = mean_hw f its pooled vector and (W, b) a linear map:

- nothing but linear layers behind the pooling: logits = W·v + b, and f itself is the feature map;
- a LayerNorm behind the pooling: logits = W·(γ·(v − mean_c v)/σ + β) + b with
  σ = sqrt(var_c(v) + eps). Since σ is one number an image, γ·(f − mean_c f)/σ averages to the
  normed vector, and the fold is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wsolviz.types import Space


@dataclass(frozen=True)
class ChannelNorm:
    """A norm over the channels of the pooled vector; (C,) each, `centred` False for an RMSNorm."""

    gamma: torch.Tensor
    beta: torch.Tensor
    eps: float
    centred: bool = True

    def fold(self, activation: torch.Tensor) -> torch.Tensor:
        """γ·(f − mean_c f)/σ of a (B,C,h,w) map, so that its mean over h×w is the norm without β."""
        centred = activation - activation.mean(dim=1, keepdim=True) if self.centred else activation
        pooled = centred.mean(dim=(2, 3), keepdim=True)
        sigma = (pooled.square().mean(dim=1, keepdim=True) + self.eps).sqrt()
        return centred * (self.gamma[None, :, None, None] / sigma)


@dataclass(frozen=True)
class Head:
    """A linear classifier behind global average pooling, with at most one channel norm between.

    Attributes:
        weight: (K,C).
        bias: (K,).
        norm: between pooling and classifier, or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    norm: ChannelNorm | None = None

    def features(
        self, activation: torch.Tensor, space: Space
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """feature_map (B,C,h,w), weight (K,C) and bias (K,) in one space."""
        if space == "pre_norm" or self.norm is None:
            return activation, self.weight, self.bias
        return self.norm.fold(activation), self.weight, self.bias + self.weight @ self.norm.beta
