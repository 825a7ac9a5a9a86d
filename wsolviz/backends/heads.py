"""The network's head in a known form: what lies between the map it averages and its logits.

With f the map that the network averages, v = mean_hw f its pooled vector and (W, b) a linear map:

- nothing but linear layers behind the pooling: logits = W·v + b, and f itself is the feature map;
- a LayerNorm behind the pooling: logits = W·(γ·(v − mean_c v)/σ + β) + b with
  σ = sqrt(var_c(v) + eps). Since σ is one number an image, γ·(f − mean_c f)/σ averages to the
  normed vector, and the fold is exact;
- a BatchNorm before or behind the pooling, which in eval mode is affine in each channel: averaging
  and it may change places, and the normed map is the feature map.

`find_head` tells them apart by running the head on chosen vectors, so that it knows a head that
nobody described to it. What it finds is a claim about constant maps only; whether the head averages
the map at all is for `gap_deviation` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from wsolviz.types import Space

PooledHead: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""The head on pooled vectors, each fed as a 1×1 map: (N,C) to the logits (N,K)."""

# What float32 leaves of an equation between the outputs of a few layers, as a share of their scale.
AFFINE_TOLERANCE = 1e-4
# Below this share of the logits, what the map adds to the bias drowns in float32 rounding, and a
# deviation relative to it would measure the rounding.
SMALLEST_SCALE = 1e-2
CHUNK = 256  # vectors a probing pass; with 1000 classes, a megabyte of logits


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


@dataclass(frozen=True)
class Call:
    """One call of a layer while the head ran: what went in and what came out."""

    layer: nn.Module
    input: torch.Tensor
    output: torch.Tensor


@torch.no_grad()
def find_head(head: PooledHead, module: nn.Module, pooled: torch.Tensor) -> Head | None:
    """The head's form, or None where it is not affine behind at most one channel norm.

    Args:
        head: runs layers of `module`.
        module: the network.
        pooled: (B,C), vectors of the size that the network itself makes; what is tried is of this
            size, so that the head is measured where it is used.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, pooled.shape[1], generator=generator).to(pooled)
    spread = pooled.std() if pooled.numel() > 1 else pooled.abs().max()
    vectors = pooled.mean(dim=0) + spread.clamp_min(torch.finfo(pooled.dtype).tiny) * noise
    calls, logits = _record(head, module, vectors)
    for call, position_norm in _position_norms(calls, vectors):
        layer = _find_classifier(calls, call.output.reshape(vectors.shape), logits)
        if layer is not None:
            layers = HeadLayers(layer, call.layer)
            return Head(*affine_of(layer), position_norm, layers=layers)
    norm_call, norm = _find_channel_norm(calls, vectors)
    behind = norm_call.output.reshape(vectors.shape) if norm_call else vectors
    layer = _find_classifier(calls, behind, logits)
    if layer is not None:
        layers = HeadLayers(layer, norm_call.layer if norm_call else None)
        return Head(*affine_of(layer), norm, layers=layers)
    if norm_call is not None:
        with _bypass(norm_call.layer):
            affine = _probe_affine(head, behind)
    else:
        affine = _probe_affine(head, vectors)
    return None if affine is None else Head(*affine, norm, "probed")


def _record(
    head: PooledHead, module: nn.Module, vectors: torch.Tensor
) -> tuple[list[Call], torch.Tensor]:
    """The calls of layers without parts of their own, in the order in which the head makes them."""
    calls: list[Call] = []

    def note(layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        given = inputs[0] if inputs else None
        if isinstance(given, torch.Tensor) and isinstance(output, torch.Tensor):
            calls.append(Call(layer, given, output))

    leaves = [m for m in module.modules() if not any(m.children())]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        logits = head(vectors)
    finally:
        for handle in handles:
            handle.remove()
    return calls, logits


def _find_channel_norm(
    calls: list[Call], vectors: torch.Tensor
) -> tuple[Call, ChannelNorm] | tuple[None, None]:
    """The layer that norms the pooled vector over its channels, known by what it computes."""
    for call in calls:
        if not _same_vectors(call.input, vectors) or call.output.numel() != vectors.numel():
            continue
        if not isinstance(getattr(call.layer, "eps", None), float):
            continue
        for centred in (True, False):
            norm = channel_norm_of(call.layer, vectors, centred)
            expected = norm.fold(vectors[:, :, None, None])[:, :, 0, 0] + norm.beta
            if _close(call.output.reshape(vectors.shape), expected):
                return call, norm
    return None, None


def _position_norms(
    calls: list[Call], vectors: torch.Tensor
) -> Iterator[tuple[Call, PositionNorm]]:
    """The BatchNorms, in eval mode, that take the vectors."""
    for call in calls:
        norm = call.layer
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_var is None:
            continue
        if _same_vectors(call.input, vectors) and norm.running_mean is not None:
            yield call, position_norm_of(norm)


def _find_classifier(
    calls: list[Call], vectors: torch.Tensor, logits: torch.Tensor
) -> nn.Module | None:
    """The one linear layer that makes the logits of the vectors."""
    for call in calls:
        if not isinstance(call.layer, nn.Linear | nn.Conv2d):
            continue
        weight = call.layer.weight
        if weight.shape[0] != logits.shape[1] or weight.numel() != weight.shape[0] * len(vectors.T):
            continue
        if _same_vectors(call.input, vectors) and torch.equal(
            call.output.reshape(logits.shape), logits
        ):
            return call.layer
    return None


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


def _probe_affine(
    head: PooledHead, vectors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """W (K,C) and b (K,) with head(v) = W·v + b, or None where there are none such.

    W's columns are differences of the head along the axes. The step is as long as the vectors
    are, so that what the float32 difference loses is lost relative to the logits.
    """
    channels = vectors.shape[1]
    bias = head(torch.zeros_like(vectors[:1]))[0]
    step = vectors.norm(dim=1).mean()
    axes = step * torch.eye(channels, device=vectors.device, dtype=vectors.dtype)
    columns = torch.cat([head(chunk) - bias for chunk in axes.split(CHUNK)])
    weight = (columns / step).T.contiguous()
    return (weight, bias) if _close(head(vectors), vectors @ weight.T + bias) else None


@contextmanager
def _bypass(layer: nn.Module) -> Iterator[None]:
    """The layer gives back what it is given."""
    handle = layer.register_forward_hook(lambda _layer, inputs, _output: inputs[0])
    try:
        yield
    finally:
        handle.remove()


def _same_vectors(tensor: torch.Tensor, vectors: torch.Tensor) -> bool:
    return tensor.numel() == vectors.numel() and torch.equal(tensor.reshape(vectors.shape), vectors)


def _close(given: torch.Tensor, expected: torch.Tensor) -> bool:
    scale = given.abs().max().maximum(expected.abs().max())
    return bool((given - expected).abs().max() <= AFFINE_TOLERANCE * scale)
