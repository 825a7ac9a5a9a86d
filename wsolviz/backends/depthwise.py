"""Depthwise convolution with large kernels at the processor's speed, gradients included.

A convolution is depthwise where each channel has one kernel of its own. PyTorch hands it to oneDNN,
whose fast code leaves out what follows (torch 2.14, measured with `benchmarks.large_kernel`):

- kernels wider than 14, unless the map is channels_last: 20 times slower;
- the gradient by the weight of kernels wider than 3: 3 to 130 times slower, in both layouts.

Both can be had from the fast code that is there. Correlating a channel's input with the gradient
that came for its output gives the gradient by its kernel, and that is a depthwise convolution too,
only that the map-sized gradient is the kernel, or a product of spectra where there is too much of
it to do. The gradient by the input is the convolution with the kernel turned by 180°.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

# oneDNN has no fast code for kernels wider than this in the contiguous layout.
WIDEST_CONTIGUOUS = 14

# Over a channels_last map of at most so many channels, oneDNN does not come to an end in bfloat16
# where a kernel is wider than that (torch 2.14; strides of 1).
ENDLESS_CHANNELS = 16

# oneDNN's own gradients are fast for kernels of so many cells (3×3 and less).
SMALL_KERNEL = 9

# Products per channel above which two FFTs cost less than multiplying out.
FFT_PRODUCTS = 2_500_000

# Cells above which one running sum in float32 comes near 1e-5; an FFT adds up in a tree.
FFT_CELLS = 128 * 128

# Elements of a map that are worked on at a time: few enough to stay in the cache between the steps
# and to take no memory worth mentioning, enough for each step to keep all cores busy.
CHUNK = 2**19

FLOATS = (torch.float32, torch.float64, torch.bfloat16)


def depthwise_conv2d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """The convolution of each channel with its own kernel, of stride 1, zeros around the map.

    The same numbers as `torch.nn.functional.conv2d(x, weight, bias, padding=k // 2, groups=C)`; on
    the CPU sooner, as are its gradients, which can be taken once (no second derivatives). The
    output may be channels_last whatever the input is. Autocast applies as it does to conv2d.

    Args:
        x: (B,C,H,W); channels_last saves a copy.
        weight: (C,1,kh,kw), both sides odd; larger than the map is fine.
        bias: (C,) or None.

    Returns:
        (B,C,H,W).

    Raises:
        ValueError: shapes that do not fit together, or a kernel with an even side.
    """
    channels, kernel = weight.shape[0], weight.shape[2:]
    if x.ndim != 4 or weight.shape[:2] != (x.shape[1], 1) or not all(k % 2 for k in kernel):
        raise ValueError(
            "depthwise_conv2d takes a map (B,C,H,W) and kernels (C,1,kh,kw) with odd sides, "
            f"not {tuple(x.shape)} and {tuple(weight.shape)}."
        )
    if x.device.type != "cpu" or kernel.numel() <= SMALL_KERNEL or x.numel() == 0:
        return functional.conv2d(x, weight, bias, padding=_middle(weight), groups=channels)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if x.dtype not in FLOATS:
        return functional.conv2d(x, weight, bias, padding=_middle(weight), groups=channels)
    return _Depthwise.apply(x, weight, bias)


def conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> torch.Tensor:
    """`torch.nn.functional.conv2d`, by way of `depthwise_conv2d` where that gives the same."""
    if (
        x.ndim == 4
        and weight.shape[:2] == (groups, 1)
        and x.shape[1] == groups
        and stride == dilation == (1, 1)
        and padding == _middle(weight)
        and all(side % 2 for side in weight.shape[2:])
    ):
        return depthwise_conv2d(x, weight, bias)
    return functional.conv2d(x, weight, bias, stride, padding, dilation, groups)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        by_x, by_weight, _ = ctx.needs_input_grad
        # Each gradient needs the other factor only; frozen weights must not keep the map alive.
        ctx.save_for_backward(x if by_weight else None, weight if by_x else None)
        ctx.kernel = weight.shape[2], weight.shape[3]
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias = ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):
            return (
                _convolve(grad, weight.flip(2, 3), None) if by_x else None,
                weight_gradient(x, grad, ctx.kernel) if by_weight else None,
                grad.sum((0, 2, 3)) if by_bias else None,
            )


def is_endless(weight: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether a convolution over a map of this type would not come to an end; in float32 it does.

    Args:
        weight: (out,in/groups,kh,kw).
        dtype: of the map.
    """
    few = weight.shape[1] == 1 and len(weight) <= ENDLESS_CHANNELS
    return dtype is torch.bfloat16 and few and max(weight.shape[2:]) > WIDEST_CONTIGUOUS


def _convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if is_endless(weight, x.dtype):
        bias = None if bias is None else bias.float()
        with torch.autocast("cpu", enabled=False):
            return _convolve(x.float(), weight.float(), bias).to(x.dtype)
    if weight.shape[3] > WIDEST_CONTIGUOUS:
        x = x.contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x, weight, bias, padding=_middle(weight), groups=len(weight))


def _middle(weight: torch.Tensor) -> tuple[int, int]:
    """The padding that keeps the map's size."""
    return weight.shape[2] // 2, weight.shape[3] // 2


def weight_gradient(x: torch.Tensor, grad: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
    """Σ_buv grad[b,c,u,v] · x[b,c,u+i−kh//2,v+j−kw//2], zeros around x, on the CPU.

    Args:
        x: (B,C,H,W), what was convolved.
        grad: (B,C,H,W), the gradient by the convolution's output.
        kernel: (kh,kw), both odd.

    Returns:
        (C,1,kh,kw) of x's type; summed in float32 at least.
    """
    batch, _, height, width = x.shape
    cells = height * width
    by_fft = cells > FFT_CELLS or cells * kernel[0] * kernel[1] > FFT_PRODUCTS
    correlate = _correlate_by_fft if by_fft else _correlate_by_convolution
    # Further shifts than the map is long only meet zeros.
    reach = min(kernel[0] // 2, height - 1), min(kernel[1] // 2, width - 1)
    channels = max(1, CHUNK // (batch * cells))
    dtype = torch.promote_types(x.dtype, torch.float32)
    parts = [
        correlate(some.to(dtype), theirs.to(dtype), reach)
        for some, theirs in zip(
            torch.split(x, channels, 1), torch.split(grad, channels, 1), strict=True
        )
    ]
    rows, columns = kernel[0] // 2 - reach[0], kernel[1] // 2 - reach[1]
    gradient = functional.pad(torch.cat(parts), (columns, columns, rows, rows))
    return gradient[:, None].to(x.dtype)


def _correlate_by_convolution(
    x: torch.Tensor, grad: torch.Tensor, reach: tuple[int, int]
) -> torch.Tensor:
    """(B,c,H,W) twice to (c,2·reach[0]+1,2·reach[1]+1), with the gradient as the kernel."""
    batch, channels, height, width = x.shape
    maps = x.permute(2, 3, 0, 1).reshape(1, height, width, -1).contiguous().permute(0, 3, 1, 2)
    kernels = grad.reshape(-1, 1, height, width)
    shifts = functional.conv2d(maps, kernels, padding=reach, groups=len(kernels))
    # Summed in rows of channels, as they lie in memory.
    rows, columns = shifts.shape[2:]
    return shifts[0].permute(1, 2, 0).reshape(rows, columns, batch, channels).sum(2).movedim(2, 0)


def _correlate_by_fft(x: torch.Tensor, grad: torch.Tensor, reach: tuple[int, int]) -> torch.Tensor:
    """(B,c,H,W) twice to (c,2·reach[0]+1,2·reach[1]+1), with room for no shift to wrap around."""
    sides = tuple(_fft_length(x.shape[2 + i] + reach[i]) for i in range(2))
    x, grad = x.contiguous(), grad.contiguous()  # an FFT over strided rows misses the cache
    spectrum = torch.fft.rfft2(x, s=sides) * torch.fft.rfft2(grad, s=sides).conj()
    shifts = torch.fft.irfft2(spectrum.sum(0), s=sides)
    for axis in range(2):
        wrapped = torch.arange(-reach[axis], reach[axis] + 1) % sides[axis]
        shifts = shifts.index_select(1 + axis, wrapped)
    return shifts


def _fft_length(least: int) -> int:
    """The next length without prime factors above 5, for which an FFT is fast.

    >>> [_fft_length(n) for n in (7, 125, 126, 111)]
    [8, 125, 128, 120]
    """
    length = least
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
