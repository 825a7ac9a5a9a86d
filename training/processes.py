"""What processes have in common beside the gradients, so that they train one network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def share_statistics(module: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the mean of all processes' running statistics, where those are in use.

    Each process's BatchNorm has seen its own photos only. Left apart, the processes would measure
    different networks, and a resumed run would go on with the leading process's.
    """
    if accelerator.num_processes == 1:
        return
    statistics = [
        buffer
        for norm in module.modules()
        if isinstance(norm, _BatchNorm) and norm.training
        for buffer in norm.buffers()
        if buffer.is_floating_point()
    ]
    if not statistics:
        return
    joined = torch.cat([buffer.flatten().float() for buffer in statistics])
    mean = accelerator.reduce(joined, "mean").split([buffer.numel() for buffer in statistics])
    for buffer, shared in zip(statistics, mean, strict=True):
        buffer.copy_(shared.view_as(buffer))


def share_broken(broken: dict[str, str], accelerator: Accelerator) -> None:
    """Add to a process's broken photos, by image id, those that the others have met."""
    if accelerator.num_processes > 1:
        for image_id, reason in gather_object(list(broken.items())):
            broken.setdefault(image_id, reason)


def refuse_unlike(found: Any, folder: Path, accelerator: Accelerator) -> None:
    """Refuse to go on where processes found different checkpoints in a run's folder.

    Args:
        found: what tells the checkpoint that this process found from others.
        folder: of the run.
        accelerator: the processes.

    Raises:
        ValueError: they did, in every process alike.
    """
    if accelerator.num_processes > 1 and len(set(gather_object([found]))) > 1:
        raise ValueError(
            f"The processes find different checkpoints in {folder}; it must lie on a disk that all "
            "machines share."
        )
