"""A fused, fast copy of a network for inference."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from wsolviz.backends.activations import ACTIVATIONS
from wsolviz.backends.dataflow import Dataflow, Forward, trace
from wsolviz.backends.folding import BATCH_NORMS, CONVOLUTIONS, fold_batch_norms, fold_beside
from wsolviz.backends.large_kernel import Mergeable
from wsolviz.backends.packing import pack, pack_layer, packing_type
from wsolviz.backends.residual import sum_in_place

Step = Callable[[nn.Module, Dataflow, torch.dtype | None], None]

# Largest deviation from the module's own output, as a share of that output's scale.
TOLERANCE = 1e-4

_precision_switch = threading.RLock()


def logits_only(module: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor]:
    """The forward pass of a classifier, as `accelerate` takes it."""
    return (module(images),)


def accelerate(
    module: nn.Module, images: torch.Tensor, forward: Forward = logits_only
) -> nn.Module:
    """A copy of the network that gives the same output sooner; for inference.

    Parallel branches are merged where a module knows how to (`Mergeable`), BatchNorm is folded
    into the convolution beside it, weights are packed for oneDNN (on the CPU, with GELU, ReLU and
    residual sums fused) or laid out channels_last, which the images should be too. Each tensor that
    stays as it is belongs to both networks, and the given one is not touched. The copy takes other
    batch and image sizes, and autocast. Weights are packed in float32; called under autocast to
    bfloat16, in that; under any other, not at all.

    Only what `forward` gives is sure to be the same: a convolution whose BatchNorm was folded, say,
    gives the normed map. A step that `forward` shows to change its outputs is left out. It is asked
    in float32, which of packing in bfloat16 shows only what it does to the network's structure.

    Args:
        module: any classifier, on any device.
        images: (B,3,H,W) of the usual shape; a new shape costs the next pass some packing.
        forward: how to run it, with all outputs that will be used; by default module(images).

    Returns:
        A module of the same class, in eval mode.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    kinds = (*CONVOLUTIONS, *BATCH_NORMS, *ACTIVATIONS, nn.Linear)
    dtype = packing_type()
    with full_precision(images.device):
        flow = trace(sharing_copy(module), images, forward, kinds)
        starts = [(module, flow)]
        merged = merged_copy(module)
        if merged is not None:
            starts.insert(0, (merged, trace(merged, images, forward, kinds)))
        for start, its_flow in starts:
            for steps in PLANS:
                fast = sharing_copy(start)
                for step in steps:
                    step(fast, its_flow, dtype)
                if same_outputs(forward(fast.eval(), images), flow.outputs):
                    return fast
    return sharing_copy(module)


def sharing_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters and buffers are those of the module given."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared).eval()


def merged_copy(module: nn.Module) -> nn.Module | None:
    """A copy like `sharing_copy` with its `Mergeable` parts merged; None where it has none."""
    merged = sharing_copy(module)
    return merged if _merge_parts(merged) else None


def _merge_parts(module: nn.Module) -> bool:
    """Replace the outermost mergeable parts, in place; whether there were any."""
    found = False
    for name, part in list(module.named_children()):
        if isinstance(part, Mergeable):
            module.set_submodule(name, part.merged().eval())
            found = True
        else:
            found |= _merge_parts(part)
    return found


def same_outputs(given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether each output is within `TOLERANCE` of the expected one, as a share of its scale."""
    return len(given) == len(expected) and all(
        a.shape == b.shape and bool((a - b).abs().max() <= TOLERANCE * b.abs().max())
        for a, b in zip(given, expected, strict=True)
    )


def fold(module: nn.Module, flow: Dataflow, dtype: torch.dtype | None) -> None:
    """See `fold_batch_norms`."""
    fold_batch_norms(module, flow)


def fold_and_pack(module: nn.Module, flow: Dataflow, dtype: torch.dtype | None) -> None:
    """As `fold` and then `pack`, but layer by layer: a folded weight is gone once it is packed."""
    for name in flow.weighted_layers(module):
        fold_beside(module, flow, name)
        pack_layer(module, flow, name, dtype)


def sum_blocks(module: nn.Module, flow: Dataflow, dtype: torch.dtype | None) -> None:
    """See `sum_in_place`."""
    sum_in_place(module)


def to_channels_last(module: nn.Module, flow: Dataflow, dtype: torch.dtype | None) -> None:
    """Lay out the weights of the convolutions as (out,kh,kw,in), which suits channels_last maps."""
    layout = torch.channels_last
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_contiguous(memory_format=layout):
            weight = layer.weight.detach().contiguous(memory_format=layout)
            layer.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No gradient, no autocast and no TF32, which is good to 1e-3 only: too coarse for a check.

    TF32 is a switch of the whole process, so one thread at a time holds it.
    """
    with (
        _precision_switch,
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False
        ),
    ):
        yield


# The fullest first; the later ones are for networks where a step of the earlier ones goes wrong.
PLANS: tuple[tuple[Step, ...], ...] = (
    (fold_and_pack, sum_blocks, to_channels_last),
    (fold_and_pack, to_channels_last),
    (pack, to_channels_last),
    (fold, to_channels_last),
    (to_channels_last,),
)
