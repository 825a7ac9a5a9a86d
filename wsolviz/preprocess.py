"""From a photo to the network's input. One place decides what size, crop and colours mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MIN_INPUT, MAX_INPUT = 32, 2048  # pixels a side; below, networks have no map, above, no memory


@dataclass(frozen=True)
class Preprocessing:
    """How a backbone wants its input.

    The whole photo is warped to `size`, as the WSOL benchmark does (Choe et al., CVPR 2020: resize
    to 224×224 without a crop), so that every pixel of the photo has its place in the feature map
    and a box found there can be drawn on the photo.

    Attributes:
        size: (height, width) of the network's input in pixels.
        mean: of each RGB channel, in [0,1].
        std: of each RGB channel, in [0,1].
        interpolation: PIL's resampling filter.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: Image.Resampling = Image.Resampling.BICUBIC

    def __call__(self, photo: Image.Image) -> torch.Tensor:
        """Warp and normalize an RGB photo to (3,H,W) float32.

        >>> Preprocessing(size=(2, 4))(Image.new("RGB", (8, 8), "white")).shape
        torch.Size([3, 2, 4])
        """
        height, width = self.size
        resized = photo.convert("RGB").resize((width, height), self.interpolation)
        pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255).permute(2, 0, 1)
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        return ((pixels - mean) / std).contiguous()
