"""Finding a head's form by running it on chosen vectors, also one that nobody described."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from wsolviz.backends.heads import (
    ChannelNorm,
    Head,
    HeadLayers,
    PositionNorm,
    affine_of,
    channel_norm_of,
    position_norm_of,
)

PooledHead: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""The head on pooled vectors, each fed as a 1×1 map: (N,C) to the logits (N,K)."""

# What float32 leaves of an equation between the outputs of a few layers, as a share of their scale.
AFFINE_TOLERANCE = 1e-4
CHUNK = 256  # vectors a probing pass; with 1000 classes, a megabyte of logits


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
