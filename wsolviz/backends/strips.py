"""How many channels of a map a wide depthwise convolution is to take at a time.

In a channels_last map the pixels of one channel lie apart by all channels. oneDNN works on a few
channels at a time, and of a large map the lines that a wide kernel covers then do not stay in the
cache. Copied out beforehand, a strip of channels lies in one piece: at 1024×1024 RepLKNet-31B's
convolutions take 0.58 to 0.75 of the time that way, copies included, and 0.85 to 1 in bfloat16.
"""

from __future__ import annotations

import torch

# Of a strip, per pixel: two cache lines, which is 32 channels in float32. With one, oneDNN does not
# come to an end in bfloat16 (torch 2.14, 27×27).
STRIP_BYTES = 128

# Maps up to this many bytes stay in the cache as they are.
SMALL_MAP = 2**21

# Below so many cells (13×13) the copies take longer than is gained.
WIDE_KERNEL = 169


def channels_at_a_time(weight: torch.Size, groups: int, shape: torch.Size, size: int) -> int:
    """The channels of a strip; all where the convolution is best left in one piece.

    Args:
        weight: (out,in/groups,kh,kw).
        groups: of the convolution.
        shape: (B,in,H,W) of the input.
        size: bytes of an element.

    >>> channels_at_a_time(torch.Size((512, 1, 27, 27)), 512, torch.Size((1, 512, 64, 64)), 4)
    32
    >>> channels_at_a_time(torch.Size((512, 1, 27, 27)), 512, torch.Size((1, 512, 14, 14)), 4)
    512
    """
    channels, strip = weight[0], STRIP_BYTES // size
    in_strips = (
        weight[:2] == (groups, 1)
        and shape[1] == groups
        and weight[2:].numel() >= WIDE_KERNEL
        and shape[1:].numel() * size > SMALL_MAP
        and channels % strip == 0
    )
    return strip if in_strips else channels
