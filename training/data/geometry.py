"""Which part of a photo the network sees, and whether mirrored: one value for a photo and its maps.

The part is drawn before any pixel is touched, in shares of the photo. So photo and target map are
each resized once, from whatever size they have, and stay in register.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from training.config import AugmentationConfig

Box = tuple[float, float, float, float]
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Geometry:
    """A part of a photo.

    Attributes:
        box: left, top, right, bottom, shares of the photo's width and height in [0,1].
        flipped: whether left and right are then exchanged.
    """

    box: Box = WHOLE
    flipped: bool = False

    def picture(
        self, photo: Image.Image, size: tuple[int, int], resampling: Image.Resampling
    ) -> Image.Image:
        """The part, warped to (height, width) pixels; a photo of mode RGB, or F for a map."""
        left, top, right, bottom = self.box
        pixels = (
            left * photo.width,
            top * photo.height,
            right * photo.width,
            bottom * photo.height,
        )
        part = photo.resize(size[::-1], resampling, box=pixels)
        return part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flipped else part

    def target_map(self, values: NDArray[np.float32], side: int) -> torch.Tensor:
        """The part of a map (h,w) of the whole photo, as (side,side) float32.

        Bilinear, so that values in [0,1] stay there.
        """
        picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
        part = self.picture(picture, (side, side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(part))


def draw_geometry(
    config: AugmentationConfig, photo_size: tuple[int, int], size: tuple[int, int]
) -> Geometry:
    """Draw a part of a photo with torch's random numbers.

    A part is cut out of the photo as warped to `config.resize`, or of the photo as it is; a random
    crop is no wider and no higher than that.

    Args:
        config: how.
        photo_size: (width, height) of the photo in pixels.
        size: (height, width) of the network's input in pixels.
    """
    width, height = (config.resize, config.resize) if config.resize else photo_size
    if config.crop == "none":
        box = WHOLE
    elif config.crop == "random":
        box = _random_crop(width, height, size)
    else:
        box = _random_resized_crop(width, height, config)
    flipped = bool(torch.rand(()) < config.flip)
    return Geometry(box, flipped)


def _random_crop(width: int, height: int, size: tuple[int, int]) -> Box:
    crop_height, crop_width = min(size[0], height), min(size[1], width)
    top = int(torch.randint(height - crop_height + 1, ()))
    left = int(torch.randint(width - crop_width + 1, ()))
    return _shares(left, top, crop_width, crop_height, width, height)


def _random_resized_crop(width: int, height: int, config: AugmentationConfig) -> Box:
    """A share of the area, and log-uniform sides (Szegedy et al., CVPR 2015, section 6)."""
    crop = v2.RandomResizedCrop(1, scale=config.crop_area, ratio=config.crop_ratio)
    drawn = crop.make_params([torch.empty((1, height, width), device="meta")])
    left, top = drawn["left"], drawn["top"]
    return _shares(left, top, drawn["width"], drawn["height"], width, height)


def _shares(left: int, top: int, crop_width: int, crop_height: int, width: int, height: int) -> Box:
    right, bottom = left + crop_width, top + crop_height
    return left / width, top / height, right / width, bottom / height
