"""Numbers that anyone can draw again, so that reference outputs need no weights beside them."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import torch


def fill(state_dict: Mapping[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """Each tensor anew, from its name, its shape and the seed alone."""
    filled = {}
    for name, tensor in state_dict.items():
        if not tensor.is_floating_point():  # num_batches_tracked
            filled[name] = tensor.clone()
            continue
        generator = torch.Generator().manual_seed(crc32(name.encode()) ^ seed)
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            value = 0.5 + noise.abs()
        elif name.endswith("running_mean"):
            value = 0.1 * noise
        elif name.endswith(".gamma"):  # layer scale
            value = 0.3 + 0.1 * noise
        elif tensor.dim() <= 1:
            value = 0.1 * noise if name.endswith("bias") else 1.0 + 0.2 * noise
        else:
            fan_in = tensor[0].numel()
            value = noise * (1.5 / fan_in) ** 0.5
        filled[name] = value.to(tensor.dtype)
    return filled


def image(size: int = 128, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """(batch,3,size,size), smooth noise of about the scale of a normalized photo."""
    generator = torch.Generator().manual_seed(1000 + seed)
    coarse = torch.randn(batch, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(
        coarse, size=(size, size), mode="bicubic", align_corners=False
    )
    return smooth + 0.1 * torch.randn(batch, 3, size, size, generator=generator)
