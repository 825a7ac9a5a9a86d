"""Effective receptive fields: from a backbone and photos to how much each input pixel counts.

    photos ─ preprocess at one size ─▶ images ─ forward_map ─▶ F ─ ∂ ΣReLU(F at a position)/∂image
           ─ ReLU, sum over colours, mean over photos ─▶ contribution (H,W)

Source: Luo et al., NeurIPS 2016; RepLKNet (Ding et al., CVPR 2022), section 4; CAM Back Again
(Yasuki & Taki, CVPR 2024), section 4.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import recount
from wsolviz.memory import keeping_freed_memory
from wsolviz.photo import PhotoSource, read_photo
from wsolviz.preprocess import MAX_INPUT, MIN_INPUT, Preprocessing
from wsolviz.progress import Progress, ignore_progress

Images: TypeAlias = "torch.Tensor | Sequence[PhotoSource]"


@dataclass(frozen=True)
class Erf:
    """An effective receptive field.

    Attributes:
        contribution: (H,W) float64, not negative; how much each pixel of the input counts.
        position: (row, column) of the feature map that it is the field of.
        grid: (h,w) of the feature map.
        num_images: photos that it is the mean over.
        num_skipped: photos left out, since their gradient was not finite.
        class_index: None for all channels, else the class whose CAM is asked about.
    """

    contribution: NDArray[np.float64]
    position: tuple[int, int]
    grid: tuple[int, int]
    num_images: int
    num_skipped: int
    class_index: int | None = None

    @property
    def centre(self) -> tuple[int, int]:
        """The pixel (y, x) of the input over which the position lies."""
        height, width = self.contribution.shape
        (row, column), (h, w) = self.position, self.grid
        if self.position == (h // 2, w // 2):
            return height // 2, width // 2  # where the papers measure from
        return int((row + 0.5) * height / h), int((column + 0.5) * width / w)


@dataclass(frozen=True)
class FieldSum:
    """Contributions summed over images: what an `Erf` is the mean of, and what can be gone on with.

    Attributes:
        total: (H,W) float64, not negative.
        position: (row, column) of the feature map.
        grid: (h,w) of the feature map.
        num_images: images in the sum.
        num_skipped: images left out, since their gradient was not finite.
    """

    total: NDArray[np.float64]
    position: tuple[int, int]
    grid: tuple[int, int]
    num_images: int
    num_skipped: int

    def __add__(self, more: FieldSum) -> FieldSum:
        """The sum over the images of both."""
        assert (self.position, self.grid) == (more.position, more.grid)
        return FieldSum(
            self.total + more.total,
            self.position,
            self.grid,
            self.num_images + more.num_images,
            self.num_skipped + more.num_skipped,
        )

    def mean(self, backbone: str, class_index: int | None = None) -> Erf:
        """The effective receptive field of the backbone of that name.

        Raises:
            ValueError: no image has a finite gradient.
        """
        if self.num_images == 0:
            raise ValueError(
                f"None of the {self.num_skipped} images gives a finite gradient; look for NaN in "
                f"the images or in the weights of {backbone}."
            )
        contribution = self.total / self.num_images
        counts = (self.num_images, self.num_skipped)
        return Erf(contribution, self.position, self.grid, *counts, class_index)


def erf(
    backbone: Backbone,
    images: Images,
    size: int | None = None,
    position: tuple[int, int] | None = None,
    class_index: int | None = None,
    batch_size: int = 1,
    progress: Progress = ignore_progress,
) -> NDArray[np.float64]:
    """The contribution of `measure_erf`; photos that were left out are told in a warning.

    >>> from wsolviz import load_backbone
    >>> erf(load_backbone("efficientnet_lite0"), torch.zeros(1, 3, 64, 64)).shape
    (64, 64)
    """
    found = measure_erf(backbone, images, size, position, class_index, batch_size, progress)
    if found.num_skipped:
        warnings.warn(
            f"{found.num_skipped} of {found.num_skipped + found.num_images} images were left out: "
            "their gradient is not finite.",
            stacklevel=2,
        )
    return found.contribution


@keeping_freed_memory()
def measure_erf(
    backbone: Backbone,
    images: Images,
    size: int | None = None,
    position: tuple[int, int] | None = None,
    class_index: int | None = None,
    batch_size: int = 1,
    progress: Progress = ignore_progress,
) -> Erf:
    """How much each pixel of the input counts for one position of the feature map.

    g = ∂ Σ_c ReLU(F[c, position]) / ∂image with F the map before the head's norm; the contribution
    is Σ_rgb ReLU(g), averaged over the images. With a class, g is the gradient of its CAM at the
    position, in logit space.

    Args:
        backbone: any that has a map.
        images: (N,3,H,W), preprocessed; or photos as `read_photo` takes them.
        size: side of the network's input for photos, in pixels; None for the backbone's own. The
            ranking of networks depends on it.
        position: (row, column) of the feature map; None for (h//2, w//2).
        class_index: the class whose CAM is asked about; None for all channels.
        batch_size: images a pass.
        progress: told after each batch; may raise to stop.

    Raises:
        ValueError: no image, or none with a finite gradient; a size, position, class or batch size
            out of range; a photo that cannot be read.
        FileNotFoundError: a photo that is not there.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it is at least 1.")
    count = len(images)
    if count == 0:
        raise ValueError("An effective receptive field needs at least one image.")
    total: FieldSum | None = None
    done = 0
    for batch in _batches(backbone, images, size, batch_size):
        summed = field_sum(backbone, batch, position, class_index)
        total = summed if total is None else total + summed
        done += len(batch)
        progress(done / count, f"image {done} of {count}")
    assert total is not None, "there is at least one image"
    recount(backbone)
    return total.mean(backbone.name, class_index)


def field_sum(
    backbone: Backbone,
    images: torch.Tensor,
    position: tuple[int, int] | None = None,
    class_index: int | None = None,
) -> FieldSum:
    """The contributions of one batch, summed; see `measure_erf`.

    Args:
        backbone: any that has a map.
        images: (B,3,H,W), preprocessed.
        position: (row, column) of the feature map; None for (h//2, w//2).
        class_index: the class whose CAM is asked about; None for all channels.

    Raises:
        ValueError: a position or class out of range, or a size that the network does not take.
    """
    contributions, where, grid = _contributions(backbone, images, position, class_index)
    finite = contributions.isfinite().all(dim=2).all(dim=1)
    total = contributions[finite].double().sum(dim=0).cpu().numpy()
    kept = int(finite.sum())
    return FieldSum(total, where, grid, kept, len(images) - kept)


def preprocessing_at(backbone: Backbone, size: int | None) -> Preprocessing:
    """A backbone's preprocessing, to another side in pixels; None for its own.

    Raises:
        ValueError: a size out of range.
    """
    if size is None:
        return backbone.preprocessing
    if not MIN_INPUT <= size <= MAX_INPUT:
        raise ValueError(f"size is {size}; it must lie between {MIN_INPUT} and {MAX_INPUT} pixels.")
    return replace(backbone.preprocessing, size=(size, size))


def _batches(
    backbone: Backbone, images: Images, size: int | None, batch_size: int
) -> Iterator[torch.Tensor]:
    if isinstance(images, torch.Tensor):
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Images have the shape (N,3,H,W), not {tuple(images.shape)}.")
        if size is not None and images.shape[2:] != (size, size):
            raise ValueError(
                f"The images have {images.shape[2]}×{images.shape[3]} pixels and size is {size}; "
                "leave size out, or give photos."
            )
        yield from torch.split(images, batch_size)
        return
    preprocess = preprocessing_at(backbone, size)
    for start in range(0, len(images), batch_size):
        photos = [read_photo(source).image for source in images[start : start + batch_size]]
        yield torch.stack([preprocess(photo) for photo in photos])


def _contributions(
    backbone: Backbone,
    images: torch.Tensor,
    position: tuple[int, int] | None,
    class_index: int | None,
) -> tuple[torch.Tensor, tuple[int, int], tuple[int, int]]:
    """(B,H,W) of a batch, the position that was asked about, and the map's (h,w)."""
    images = images.detach().to(backbone.device, memory_format=torch.channels_last)
    images.requires_grad_()  # the caller's tensor stays as it is
    fused = backbone.fused
    with backbone.one_at_a_time(), torch.enable_grad():
        with backbone.autocast(), backbone.refusing_size(images):
            activation = backbone.forward_map(fused, images).float()
        grid = (activation.shape[2], activation.shape[3])
        where = position or (grid[0] // 2, grid[1] // 2)
        if not (0 <= where[0] < grid[0] and 0 <= where[1] < grid[1]):
            raise ValueError(
                f"The position {where} lies outside of the {grid[0]}×{grid[1]} feature map of "
                f"{backbone.name}; rows and columns count from 0."
            )
        if class_index is None:
            asked = activation[:, :, where[0], where[1]].relu().sum()
        else:
            asked = _cam_at(backbone, images, activation, where, class_index).sum()
        (gradient,) = torch.autograd.grad(asked, images)
    return gradient.relu().sum(dim=1), where, grid


def _cam_at(
    backbone: Backbone,
    images: torch.Tensor,
    activation: torch.Tensor,
    where: tuple[int, int],
    class_index: int,
) -> torch.Tensor:
    """(B,): CAM of a class at one position, in logit space; differentiable."""
    if not 0 <= class_index < backbone.num_classes:
        raise ValueError(
            f"{backbone.name} has the classes 0 to {backbone.num_classes - 1}, not {class_index}."
        )
    if backbone.head is None:
        with torch.no_grad():
            weight = backbone.extract(images.detach()).class_weight(class_index)
        feature_map = activation
    else:
        feature_map, weights, _ = backbone.head.features(activation, "logit")
        weight = weights[class_index][None]
    return (feature_map[:, :, where[0], where[1]] * weight).sum(dim=1)
