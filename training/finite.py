"""Losses and weights that are no numbers: a run stops before it keeps them, and keeps the batch."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from training.checkpoint import save_state
from training.data import Loaded

REMEDIES = (
    "A smaller optimizer.lr, a longer schedule.warmup_epochs, optimizer.clip_norm or precision: "
    "float32 may help."
)


class NonFiniteLossError(ValueError):
    """A loss or a weight became infinite or NaN: settings do not suit the network or the photos."""


def check_weights(module: nn.Module, epoch: int) -> None:
    """Stop before weights that are no numbers are measured or kept: no run goes on from them.

    The gradient of a finite loss may be infinite.

    Args:
        module: that is trained.
        epoch: in which the last step was, from 1.

    Raises:
        NonFiniteLossError: a weight or a statistic is infinite or NaN.
    """
    state = module.state_dict()
    spoiled = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if spoiled:
        raise NonFiniteLossError(
            f"Epoch {max(epoch, 1)}: weights became infinite or NaN, such as {spoiled[0]}. The "
            f"last checkpoint is from before that. {REMEDIES}"
        )


def keep_batch(path: Path, loaded: Loaded, module: nn.Module, told: str) -> None:
    """Write a batch whose losses are no numbers, with the weights that gave them.

    Args:
        path: of the file.
        loaded: the batch and its photos' names.
        module: that is trained.
        told: the losses, in words.
    """
    state = {
        "images": loaded.batch.images,
        "target": loaded.batch.target,
        "image_ids": list(loaded.image_ids),
        "module": module.state_dict(),
        "losses": told,
    }
    save_state(state, path)
