"""A photo to what the network sees in training: a random part of it, recoloured, erased, mixed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from training.config import AugmentationConfig
from training.data.geometry import draw_geometry
from wsolviz.preprocess import Preprocessing

Maps = Mapping[str, NDArray[np.float32]]

MAGNITUDES = 31  # RandAugment's are 0 to 30


class Augmentation:
    """Draws and applies everything that `AugmentationConfig` names, with torch's random numbers.

    Args:
        config: what is done.
        preprocessing: the network's; its `size` is that of the input.
        num_classes: K, of the labels that mixing makes soft.
        target_maps: by image id, the (h,w) float32 map in [0,1] of each whole photo.
        map_size: side that the maps are given in, together with `target_maps`.

    Raises:
        ValueError: choices that exclude each other.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        preprocessing: Preprocessing,
        num_classes: int,
        target_maps: Maps | None = None,
        map_size: int | None = None,
    ) -> None:
        assert (target_maps is None) == (map_size is None), "maps are of some size"
        _check(config, preprocessing.size, target_maps is not None)
        self.config, self.preprocessing = config, preprocessing
        self.target_maps, self.map_size = target_maps, map_size
        self._recolour = _recolouring(config, preprocessing)
        self._erase = v2.RandomErasing(config.random_erasing) if config.random_erasing else None
        self._mix = _mixing(config, num_classes)

    @property
    def mixes(self) -> bool:
        """Whether photos of a batch are mixed."""
        return self._mix is not None

    def __call__(
        self, photo: Image.Image, image_id: str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """An RGB photo to (3,H,W) float32, normalized, and its target map (m,m) where it has one.

        With nothing to draw (crop "none", flip 0), the first is the backbone's `preprocess`.
        """
        preprocessing = self.preprocessing
        geometry = draw_geometry(self.config, photo.size, preprocessing.size)
        picture = geometry.picture(photo, preprocessing.size, preprocessing.interpolation)
        for recolour in self._recolour:
            picture = recolour(picture)
        image = preprocessing(picture)  # which is of its size already
        if self._erase is not None:
            image = self._erase(image)
        if self.target_maps is None or self.map_size is None:
            return image, None
        return image, geometry.target_map(self.target_maps[image_id], self.map_size)

    def mix(self, images: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix a batch, (B,3,H,W) and labels (B,), to such images and probabilities (B,K).

        Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019.
        """
        assert self._mix is not None, "see `mixes`"
        images, soft_target = self._mix(images, target)
        return images, soft_target


def _recolouring(config: AugmentationConfig, preprocessing: Preprocessing) -> list[v2.Transform]:
    """What changes the picture's colours, or, in RandAugment's case, also moves its pixels."""
    chosen: list[v2.Transform] = []
    if config.rand_augment is not None:
        mean = [round(255 * value) for value in preprocessing.mean]
        chosen.append(
            v2.RandAugment(
                config.rand_augment.num_ops,
                config.rand_augment.magnitude,
                MAGNITUDES,
                interpolation=v2.InterpolationMode.BILINEAR,
                fill=mean,  # what is outside the photo is then 0 to the network
            )
        )
    if config.color_jitter:
        strength = config.color_jitter
        chosen.append(v2.ColorJitter(strength, strength, strength))
    return chosen


def _mixing(config: AugmentationConfig, num_classes: int) -> v2.Transform | None:
    chosen: list[v2.Transform] = []
    if config.mixup:
        chosen.append(v2.MixUp(alpha=config.mixup, num_classes=num_classes))
    if config.cutmix:
        chosen.append(v2.CutMix(alpha=config.cutmix, num_classes=num_classes))
    return v2.RandomChoice(chosen) if chosen else None


def _check(config: AugmentationConfig, size: tuple[int, int], with_maps: bool) -> None:
    if config.crop == "random" and config.resize is not None and config.resize < max(size):
        raise ValueError(
            f"augmentation.resize is {config.resize}, but a random crop of data.image_size, "
            f"{max(size)}, is cut out of it; raise resize to {max(size)} or more, or take "
            "crop: random_resized."
        )
    for name in ("crop_area", "crop_ratio"):
        smallest, largest = getattr(config, name)
        if smallest > largest:
            raise ValueError(
                f"augmentation.{name} is {smallest}, {largest}; the smallest value stands first."
            )
    moving = {
        "rand_augment": config.rand_augment is not None,
        "mixup": bool(config.mixup),
        "cutmix": bool(config.cutmix),
    }
    refused = [name for name, chosen in moving.items() if chosen]
    if with_maps and refused:
        raise ValueError(
            f"augmentation.{refused[0]} moves or mixes pixels, and the target maps of this method "
            "would no longer lie over them; leave it out (crop, flip, color_jitter and "
            "random_erasing go together with target maps)."
        )
