"""The first principal component of the class-weighted map (Yasuki & Taki, CVPR 2024)."""

from __future__ import annotations

import torch

from wsolviz.methods import Numbers, Quantity, method, picture
from wsolviz.types import ClassIndex, Features

SHARE = Quantity(
    "variance of PC1", "Share of the channels' variance that the first component holds.", "%"
)
FLIPPED = Quantity(
    "sign flipped",
    "A principal component has no sign of its own; flipped means that the sign rule turned it.",
    "yes/no",
)
PC1_QUANTITIES = {"explained_variance": SHARE, "sign_flipped": FLIPPED}


def channel_samples(maps: torch.Tensor) -> torch.Tensor:
    """Make C samples of h·w variables: each channel min-max scaled, then the mean sample removed.

    Args:
        maps: (B,C,h,w).

    Returns:
        (B,C,h·w) float64; a constant channel counts as 0 before the mean is removed.
    """
    # Apple's GPUs have neither float64 nor an eigensolver.
    maps = maps.cpu() if maps.device.type == "mps" else maps
    # Not aminmax, which takes three times as long where the map is channels_last.
    low, high = (extreme((2, 3), keepdim=True).double() for extreme in (maps.amin, maps.amax))
    spread = high - low
    scaled = torch.where(spread > 0, (maps.double() - low) / spread.clamp_min(1e-300), 0)
    samples = scaled.flatten(2)
    return samples - samples.mean(dim=1, keepdim=True)


def principal_components(samples: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first right singular vectors of centred samples, by the smaller of the two Gram matrices.

    Args:
        samples: (B,n,d), centred.
        count: how many components; those beyond the rank are 0.

    Returns:
        (B,count,d) unit vectors whose entry of largest magnitude is positive, scikit-learn's sign
        since 1.5 (so that no BLAS decides it), and (B,count) their shares of the variance.
    """
    n, d = samples.shape[1:]
    rows_fewer = n < d
    gram = samples @ samples.mT if rows_fewer else samples.mT @ samples
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(-1)[:, :count], vectors.flip(-1)[:, :, :count]
    total = gram.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(1e-300)[:, None]
    components = (samples.mT @ vectors if rows_fewer else vectors).mT
    components = torch.nn.functional.normalize(components, dim=2)
    present = values > 1e-12 * total
    largest = components.gather(2, components.abs().argmax(dim=2, keepdim=True))
    components = components * largest.sign() * present[:, :, None]
    missing = count - components.shape[1]
    components = torch.nn.functional.pad(components, (0, 0, 0, missing))
    shares = torch.nn.functional.pad(values.clamp_min(0) / total, (0, missing))
    return components, shares


def border_is_bright(maps: torch.Tensor) -> torch.Tensor:
    """Whether more than half of the border ring, one cell wide, lies above the map's mean: (B,)."""
    above = maps > maps.mean(dim=(1, 2), keepdim=True)
    ring = torch.ones(maps.shape[1:], dtype=torch.bool, device=maps.device)
    ring[1:-1, 1:-1] = False
    return above[:, ring].double().mean(dim=1) > 0.5


def border_is_bright_paper(maps: torch.Tensor) -> torch.Tensor:
    """The paper's own test, with its off-by-one: (B,).

    Binarized at the mean, the square [1:side−2, 1:side−2] is zeroed, so that what is left is a ring
    that is two cells wide at the bottom and right; its sum is compared with half of 4·(side−1).
    For maps that are not square, the ring's length 4·(side−1) is read as 2·(h−1) + 2·(w−1).
    """
    height, width = maps.shape[1:]
    above = maps > maps.mean(dim=(1, 2), keepdim=True)
    above[:, 1 : max(height - 2, 1), 1 : max(width - 2, 1)] = False
    return above.sum(dim=(1, 2)) > 0.5 * 2 * (height - 1 + width - 1)


def _first_component(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    components, shares = principal_components(channel_samples(maps), count=1)
    return components[:, 0].reshape(-1, *maps.shape[2:]), shares[:, 0]


def _weighted_map(features: Features, class_index: ClassIndex) -> torch.Tensor:
    return features.feature_map * features.class_weight(class_index)[:, :, None, None]


def _turn(
    component: torch.Tensor, share: torch.Tensor, flip: torch.Tensor
) -> tuple[torch.Tensor, Numbers]:
    turned = torch.where(flip[:, None, None], -component, component)
    return turned, {"explained_variance": share, "sign_flipped": flip}


@method("pc1", "PC1", quantities=PC1_QUANTITIES)
def pc1(features: Features, class_index: ClassIndex = None) -> tuple[torch.Tensor, Numbers]:
    """First principal component of the class-weighted channels; only differences count, no zero.

    CAM Back Again (Yasuki & Taki, CVPR 2024, Sec. 3): X_c = w_kc·f_c are C samples of h·w
    variables. The sign rule here is symmetric but for ties: where most of the border is bright, the
    map shows the background and is flipped.

    Returns:
        (B,h,w) float64, and explained_variance in [0,1] and sign_flipped, (B,) each.
    """
    component, share = _first_component(_weighted_map(features, class_index))
    return _turn(component, share, border_is_bright(component))


@method("pc1_paper", "PC1 (paper)", quantities=PC1_QUANTITIES)
def pc1_paper(features: Features, class_index: ClassIndex = None) -> tuple[torch.Tensor, Numbers]:
    """First principal component with the sign rule of the paper's own code, off-by-one included.

    See `pc1` and `border_is_bright_paper`.
    """
    component, share = _first_component(_weighted_map(features, class_index))
    return _turn(component, share, border_is_bright_paper(component))


@method("eigen", "Eigen", quantities=PC1_QUANTITIES)
def eigen(features: Features, class_index: ClassIndex = None) -> tuple[torch.Tensor, Numbers]:
    """First principal component of the unweighted channels: what varies most, for no class at all.

    As `pc1` with X_c = f_c, so that the difference between the two is the class weight alone.
    """
    del class_index
    component, share = _first_component(features.feature_map)
    return _turn(component, share, border_is_bright(component))


@picture("pc_rgb", "PC1–3 as RGB", quantities={"explained_variance": SHARE})
def principal_components_rgb(
    features: Features, class_index: ClassIndex = None
) -> tuple[torch.Tensor, Numbers]:
    """First three principal components of the class-weighted channels as red, green and blue.

    Returns:
        (B,3,h,w) in [0,1], each component min-max scaled (a constant one is 0), the first with the
        sign of `pc1`; explained_variance is the share of all three.
    """
    maps = _weighted_map(features, class_index)
    components, shares = principal_components(channel_samples(maps), count=3)
    components = components.reshape(len(maps), 3, *maps.shape[2:])
    flip = border_is_bright(components[:, 0])
    sign = torch.ones_like(components[:, :, 0, 0])
    sign[:, 0] = torch.where(flip, -1.0, 1.0)
    components = components * sign[:, :, None, None]
    low, high = components.amin((2, 3), keepdim=True), components.amax((2, 3), keepdim=True)
    scaled = torch.where(high > low, (components - low) / (high - low).clamp_min(1e-300), 0)
    return scaled, {"explained_variance": shares.sum(dim=1)}
