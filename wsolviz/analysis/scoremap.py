"""From a raw heatmap on the feature grid to a score map on the pixels, in [0,1]."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


def resize_heatmap(
    heatmap: ArrayLike | torch.Tensor, size: int | tuple[int, int]
) -> NDArray[np.float64]:
    """Bicubic resize (OpenCV's INTER_CUBIC) of a raw (h,w) heatmap to (H,W); signs are kept.

    Args:
        heatmap: (h,w), any real numbers.
        size: (height, width) in pixels, or one side of a square.

    Raises:
        ValueError: a heatmap that is not two-dimensional, or a size below one pixel.
    """
    if isinstance(heatmap, torch.Tensor):
        heatmap = heatmap.detach().cpu().double().numpy()
    values = np.asarray(heatmap, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(
            f"A heatmap has shape (h,w), not {values.shape}; of a batch (B,h,w) take one image."
        )
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"The size (height, width) must be at least 1 by 1, not {size}.")
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    return resized.astype(np.float64, copy=False)


def min_max(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale to [0,1]; an array that is constant or holds NaN becomes all 0."""
    low, high = values.min(), values.max()
    if not np.isfinite(low) or not np.isfinite(high) or low == high:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def scoremap(heatmap: ArrayLike | torch.Tensor, size: int | tuple[int, int]) -> NDArray[np.float64]:
    """Bicubic resize to the image, then min-max to [0,1], as the WSOL benchmark does.

    Source: Choe et al., CVPR 2020; wsolevaluation, inference.py (resize, then normalize_scoremap).

    Args:
        heatmap: (h,w), raw and signed.
        size: (height, width) of the result in pixels, or one side of a square.

    Returns:
        (H,W) float64 in [0,1]; all 0 for a constant heatmap or one that holds NaN.

    Raises:
        ValueError: a heatmap that is not two-dimensional, or a size below one pixel.

    >>> scoremap([[0, 1], [2, 3]], 2)
    array([[0.        , 0.33333333],
           [0.66666667, 1.        ]])
    """
    return min_max(resize_heatmap(heatmap, size))


def merged_scoremap(
    heatmaps: Sequence[ArrayLike | torch.Tensor], size: int | tuple[int, int]
) -> NDArray[np.float64]:
    """The score map of several heatmaps of one photo: the mean of their score maps, min-max scaled.

    Each counts alike, whatever its scale; of a single heatmap this is `scoremap`.

    Args:
        heatmaps: (h,w) each, of any sizes; at least one.
        size: (height, width) of the result in pixels, or one side of a square.

    Raises:
        ValueError: no heatmap, or what `scoremap` refuses.
    """
    if not heatmaps:
        raise ValueError("There is no heatmap to make a score map of.")
    maps = [scoremap(heatmap, size) for heatmap in heatmaps]
    return maps[0] if len(maps) == 1 else min_max(np.mean(maps, axis=0))
