"""Gradient checkpointing: blocks are run again for the gradient, so that their maps are not kept.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from training.models import TrainableNetwork, norms_by_halves


@contextmanager
def recomputing(network: TrainableNetwork, wanted: bool = True) -> Iterator[None]:
    """Steps in here, forward and backward, keep no maps inside of blocks.

    A block that a method looks into, at a layer inside of it, keeps its maps.

    Args:
        network: whose stages' blocks are run again.
        wanted: False does nothing.

    Raises:
        ValueError: a network without such lists.
    """
    blocks = blocks_of(network) if wanted else []
    if wanted and not blocks:
        raise ValueError(
            f"gradient_checkpointing: {network.backbone.name} has no stages of blocks to run again."
        )
    for block in blocks:
        run: Any = partial(_checkpointed, network, block, block.forward)
        block.forward = run
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def blocks_of(network: TrainableNetwork) -> list[nn.Module]:
    """The blocks of all stages, in the network's order."""
    return [network.module.get_submodule(p.layer) for stage in network.stages for p in stage]


def _checkpointed(
    network: TrainableNetwork,
    block: nn.Module,
    forward: Callable[..., Any],
    *inputs: Any,
    **options: Any,
) -> Any:
    # A method that looks into the block has gone when the block is run again for the gradient.
    watched = any(layer._forward_hooks for layer in block.modules() if layer is not block)
    if watched or not torch.is_grad_enabled():
        return forward(*inputs, **options)
    doubled = network.doubled

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _second_time(block, doubled)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **options)


@contextmanager
def _second_time(block: nn.Module, doubled: int | None) -> Iterator[None]:
    """Running a block again as it ran before; BatchNorm's statistics have counted it already."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    with ExitStack() as stack:
        if doubled is not None:
            stack.enter_context(norms_by_halves(block, doubled))
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
