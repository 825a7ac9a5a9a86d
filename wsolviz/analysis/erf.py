"""What an effective receptive field (ERF) amounts to: areas, profiles, widths.

An ERF (Luo et al., NeurIPS 2016) is how much each pixel of the input counts for one position of the
feature map: here the contribution, the ReLU of the gradient summed over the colours and averaged
over photos, as RepLKNet (Ding et al., CVPR 2022) and CAM Back Again (Yasuki & Taki, CVPR 2024)
measure it. `wsolviz.receptive_field` makes them; this module reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)  # of the papers' tables
FIT_SIDE = 128  # pixels; a Gaussian is fitted to block means, which changes its widths by nothing

Pixel = tuple[float, float]


@dataclass(frozen=True)
class Gaussian:
    """An axis-parallel Gaussian a·exp(−(Δy/σ_y)²/2 − (Δx/σ_x)²/2), in pixels.

    Attributes:
        amplitude: a, in units of the contribution.
        centre: (y, x).
        widths: (σ_y, σ_x).
        explained: share of the contribution's variance that it explains (R²).
    """

    amplitude: float
    centre: Pixel
    widths: Pixel
    explained: float


def log_scaled(contribution: ArrayLike) -> NDArray[np.float64]:
    """log10(contribution + 1) over its maximum, (H,W) in [0,1]: what the papers draw and measure.

    Raises:
        ValueError: see `check_contribution`.
    """
    logged = np.log10(check_contribution(contribution) + 1)
    highest = logged.max()
    return logged / highest if highest > 0 else logged


def erf_area(
    contribution: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    centre: tuple[int, int] | None = None,
) -> NDArray[np.float64]:
    """The smallest square about the centre that holds more than a share t of the log-scaled ERF.

    Source: RepLKNet (Ding et al., CVPR 2022), section 4 and table 9: the area ratio r of the
    high-contribution area.

    Args:
        contribution: (H,W), not negative.
        thresholds: t, each in (0,1).
        centre: (y, x), the pixel that the squares are about; None for (H//2, W//2). Squares are
            cut off at the border.

    Returns:
        (T,2): for each threshold the square's side in pixels, odd, and the share of the image that
        it covers; both NaN where the contribution is zero everywhere.

    Raises:
        ValueError: thresholds out of range, a centre outside, or see `check_contribution`.
    """
    wrong = [t for t in thresholds if not 0 < t < 1]
    if wrong:
        raise ValueError(f"The threshold {wrong[0]} is not between 0 and 1.")
    scaled = log_scaled(contribution)
    height, width = scaled.shape
    y, x = centre or (height // 2, width // 2)
    if not (0 <= y < height and 0 <= x < width):
        raise ValueError(f"The centre {(y, x)} lies outside of the {height}×{width} pixels.")
    total = scaled.sum()
    if total == 0:
        return np.full((len(thresholds), 2), np.nan)
    sums = _square_sums(scaled, (y, x))
    rows = []
    for threshold in thresholds:
        half = min(int(np.searchsorted(sums, threshold * total, side="right")), len(sums) - 1)
        inside_y = min(y + half, height - 1) - max(y - half, 0) + 1
        inside_x = min(x + half, width - 1) - max(x - half, 0) + 1
        rows.append((2 * half + 1, inside_y / height * inside_x / width))
    return np.array(rows, dtype=np.float64)


def top_energy_pixels(contribution: ArrayLike, share: float = 0.2) -> int:
    """How few pixels hold a share of the energy, the sum of squares of the contribution.

    Args:
        contribution: (H,W), not negative.
        share: in (0,1].

    Returns:
        The number of pixels, the strongest first; 0 where the contribution is zero everywhere.

    Raises:
        ValueError: a share out of range, or see `check_contribution`.
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share {share} is not between 0 and 1.")
    energy = np.sort(np.square(check_contribution(contribution)).ravel())[::-1].cumsum()
    if energy[-1] == 0:
        return 0
    return int(np.searchsorted(energy, share * energy[-1])) + 1


def radial_profile(
    contribution: ArrayLike, centre: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """Mean contribution at each distance from the centre.

    Args:
        contribution: (H,W), not negative.
        centre: (y, x); None for (H//2, W//2).

    Returns:
        (R,): at distances rounded to 0, 1, 2 … pixels, as far as the farthest corner; NaN where no
        pixel lies at such a distance.

    Raises:
        ValueError: see `check_contribution`.
    """
    values = check_contribution(contribution)
    height, width = values.shape
    y, x = centre or (height // 2, width // 2)
    distance = np.hypot(np.arange(height)[:, None] - y, np.arange(width)[None] - x)
    rounded = np.rint(distance).astype(np.int64).ravel()
    count = np.bincount(rounded)
    with np.errstate(invalid="ignore"):
        return np.bincount(rounded, values.ravel()) / np.where(count == 0, np.nan, count)


def square_shares(
    contribution: ArrayLike, centre: tuple[int, int] | None = None
) -> NDArray[np.float64]:
    """What share of the log-scaled ERF lies in the squares of side 1, 3, 5 … about the centre.

    Args:
        contribution: (H,W), not negative.
        centre: (y, x); None for (H//2, W//2).

    Returns:
        (S,2): side in pixels and share in [0,1], up to the square that holds the whole image.

    Raises:
        ValueError: see `check_contribution`.
    """
    scaled = log_scaled(contribution)
    height, width = scaled.shape
    sums = _square_sums(scaled, centre or (height // 2, width // 2))
    shares = sums / sums[-1] if sums[-1] > 0 else np.full(sums.shape, np.nan)
    return np.stack([2.0 * np.arange(len(sums)) + 1, shares], axis=1)


def fit_gaussian(contribution: ArrayLike) -> Gaussian | None:
    """The axis-parallel Gaussian that fits a contribution best, in the least squares sense.

    Args:
        contribution: (H,W), not negative.

    Returns:
        None where the contribution is the same everywhere, so that no Gaussian has a width.

    Raises:
        ValueError: see `check_contribution`.
    """
    values, step = _block_means(check_contribution(contribution))
    spread = float(np.square(values - values.mean()).sum())
    if spread == 0:
        return None
    scale = values.max()
    rows, columns = (np.arange(side, dtype=np.float64) for side in values.shape)

    def model(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        a, y, x, sy, sx = parameters
        bell_y = np.exp(-np.square((rows - y) / sy) / 2)
        bell_x = np.exp(-np.square((columns - x) / sx) / 2)
        return a * bell_y[:, None] * bell_x[None]

    weights = values / values.sum()
    y, x = float((weights.sum(1) * rows).sum()), float((weights.sum(0) * columns).sum())
    sy = np.sqrt(max((weights.sum(1) * np.square(rows - y)).sum(), 0.25))
    sx = np.sqrt(max((weights.sum(0) * np.square(columns - x)).sum(), 0.25))
    fitted = least_squares(
        lambda p: (model(p) - values / scale).ravel(), np.array([1.0, y, x, sy, sx]), method="lm"
    ).x
    residual = float(np.square(model(fitted) * scale - values).sum())
    a, y, x, sy, sx = fitted
    half = (step - 1) / 2  # a block's middle, in pixels
    return Gaussian(
        amplitude=float(a * scale),
        centre=(float(y * step + half), float(x * step + half)),
        widths=(float(abs(sy) * step), float(abs(sx) * step)),
        explained=1 - residual / spread,
    )


def check_contribution(contribution: ArrayLike) -> NDArray[np.float64]:
    """A contribution as float64.

    Raises:
        ValueError: not (H,W), or values that are negative or not finite.
    """
    values = np.asarray(contribution, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"A contribution has the shape (H,W), not {values.shape}.")
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError(
            "A contribution is finite and not negative: the ReLU of a gradient, summed over the "
            "colours."
        )
    return values


def _square_sums(values: NDArray[np.float64], centre: tuple[int, int]) -> NDArray[np.float64]:
    """Sums over the squares of side 1, 3, 5 … about a centre, cut off at the border."""
    rows, columns = (np.abs(np.arange(n) - at) for n, at in zip(values.shape, centre, strict=True))
    # Half the side of the smallest square that holds each pixel.
    half = np.maximum(rows[:, None], columns[None]).ravel()
    return np.bincount(half, values.ravel()).cumsum()


def _block_means(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Means of square blocks, about `FIT_SIDE` a side, and the blocks' side in pixels."""
    step = max(1, min(values.shape) // FIT_SIDE)
    height, width = (side // step * step for side in values.shape)
    blocks = values[:height, :width].reshape(height // step, step, width // step, step)
    return blocks.mean(axis=(1, 3)), step
