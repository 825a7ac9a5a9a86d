"""The values that travel along the data path.

Axes: B batch, C channels, K classes, h×w feature grid, H×W image pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from wsolviz.analysis.boxes import LevelBoxes

Space = Literal["logit", "pre_norm"]
Contours = Literal["largest", "all"]
Precision = Literal["float32", "bfloat16", "float16"]
Number: TypeAlias = float | int | bool
ClassIndex: TypeAlias = int | list[int] | torch.Tensor | None


@dataclass(frozen=True)
class Replay:
    """How to run the network again, for methods that need a gradient or a perturbed input.

    The forward path keeps no gradient. Gradient methods need only the part behind the feature map,
    ScoreCAM needs the whole network.

    Attributes:
        activation: (B,C,h,w), the map as the network itself computed it, before any norm of the
            head is folded into it.
        logits_from_map: (N,C,h,w) to (N,K); differentiable. N may differ from B where B is 1.
        images: (B,3,H,W), the network's input.
        logits_from_images: (N,3,H,W) to (N,K); keeps no gradient.
    """

    activation: torch.Tensor
    logits_from_map: Callable[[torch.Tensor], torch.Tensor]
    images: torch.Tensor
    logits_from_images: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Features:
    """What one forward pass of a backbone gives; every forward-only panel is computed from it.

    Attributes:
        feature_map: (B,C,h,w), in the space that `space` names.
        weight: (K,C), the classifier's weight in that space; (0,C) where the head has a
            nonlinearity after pooling, so that no constant weight exists (see `class_weight`).
        bias: (K,), or (0,) with an empty `weight`.
        logits: (B,K), the network's own output.
        space: "logit", where the head's norm is folded into `feature_map`, or "pre_norm", the map
            before it, as the papers' own code used it.
        exact: whether mean_hw(feature_map) @ weight.T + bias == logits, so that CAM plus bias
            averages to the logit. Checked when the backbone is loaded, never assumed.
        replay: how to run (a part of) the network again; None for features made by hand.
    """

    feature_map: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    logits: torch.Tensor
    space: Space = "logit"
    exact: bool = True
    replay: Replay | None = None
    _gradients: dict[tuple[int, ...], torch.Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def num_classes(self) -> int:
        """K, the length of the network's output."""
        return self.logits.shape[1]

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels, of features that `extract` made."""
        assert self.replay is not None, "extract always gives a replay"
        height, width = self.replay.images.shape[2:]
        return height, width

    def class_indices(self, class_index: ClassIndex) -> torch.Tensor:
        """One class for each image: (B,) int64 on the features' device.

        Args:
            class_index: None for each image's own top-1, one index for all images, or (B,) indices.

        Raises:
            ValueError: an index outside [0, K), or as many indices as there are not images.
        """
        batch = self.logits.shape[0]
        if class_index is None:
            return self.logits.argmax(dim=1)
        indices = torch.as_tensor(class_index, device=self.logits.device, dtype=torch.int64)
        if indices.ndim > 1 or (indices.ndim == 1 and len(indices) != batch):
            raise ValueError(
                f"class_index has shape {tuple(indices.shape)}; allowed are None, one index, "
                f"or one index for each of the {batch} images."
            )
        if ((indices < 0) | (indices >= self.num_classes)).any():
            raise ValueError(
                f"class_index {class_index} is outside the network's {self.num_classes} classes; "
                f"allowed are 0 to {self.num_classes - 1}."
            )
        return indices.expand(batch)

    def class_weight(self, class_index: ClassIndex = None) -> torch.Tensor:
        """The weight w_k of one class for each image, (B,C).

        Where the head is linear, that is a row of `weight`. Where it is not, it is the gradient of
        the class logit with respect to the pooled vector, Σ_hw ∂logit_k/∂activation: Grad-CAM's
        channel weight (Selvaraju et al., ICCV 2017, Eq. 1) times h·w, which for a linear head is
        that same row.

        Raises:
            ValueError: a class that the network does not have.
        """
        indices = self.class_indices(class_index)
        if len(self.weight):
            return self.weight[indices]
        # Kept, since all panels of a class want it and a replay can cost a forward pass.
        classes = tuple(indices.tolist())
        if classes not in self._gradients:
            self._gradients[classes] = self._pooled_gradient(indices)
        return self._gradients[classes]

    def _pooled_gradient(self, indices: torch.Tensor) -> torch.Tensor:
        assert self.replay is not None, "an inexact head always comes with a replay"
        with torch.enable_grad():
            activation = self.replay.activation.detach().clone().requires_grad_()
            logits = self.replay.logits_from_map(activation)
            chosen = logits.gather(1, indices[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, activation)
        return gradient.sum(dim=(2, 3))


@dataclass(frozen=True)
class ClassScore:
    """One class of one backbone's output on one photo; probability in [0,1]."""

    index: int
    name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Explanation:
    """What one (backbone, method, class) gave on one photo.

    Attributes:
        backbone: the name it was loaded by.
        method: the method's name in METHODS.
        target: the class that was explained.
        heatmap: (h,w) float32, raw and signed; of several views their merged (H,W) score map.
        scoremap: (H,W) float64 in [0,1], on the display grid.
        boxes: for each contour policy, the boxes at all 256 levels, in scoremap pixels.
        numbers: the method's own numbers by name (explained variance, whether the sign was
            flipped, norms …).
        space: the feature space that the heatmap was computed in.
        exact: see `Features.exact`.
        milliseconds: time that the method took beyond the shared forward pass.
        image_size: (width, height) of the photo in its own pixels.
        signed: whether the heatmap's zero means something, so that it is drawn around it.
    """

    backbone: str
    method: str
    target: ClassScore
    heatmap: NDArray[np.float32]
    scoremap: NDArray[np.float64]
    boxes: Mapping[Contours, LevelBoxes]
    numbers: Mapping[str, Number] = field(default_factory=dict)
    space: Space = "logit"
    exact: bool = True
    milliseconds: float = 0.0
    image_size: tuple[int, int] = (0, 0)
    signed: bool = False

    def boxes_at(self, threshold: float, contours: Contours = "largest") -> NDArray[np.int64]:
        """The boxes at one threshold, (n,4) x0,y0,x1,y1 in the photo's pixels, corners included.

        Args:
            threshold: cam_threshold in [0,1], a share of the map's maximum.
            contours: "largest" gives one box, "all" every contour's; where nothing lies above the
                threshold there is none.

        Raises:
            ValueError: a threshold outside [0,1].
        """
        from wsolviz.analysis.boxes import scale_boxes  # noqa: PLC0415

        height, width = self.scoremap.shape
        found = self.boxes_on_map(threshold, contours)
        return scale_boxes(found, (width, height), self.image_size)

    def boxes_on_map(self, threshold: float, contours: Contours = "largest") -> NDArray[np.int64]:
        """As `boxes_at`, in the score map's pixels."""
        from wsolviz.analysis.boxes import quantize, threshold_level  # noqa: PLC0415

        level = threshold_level(self.scoremap, threshold)
        if level >= quantize(self.scoremap).max():
            return np.empty((0, 4), np.int64)  # in place of the benchmark's stand-in 0,0,0,0
        return self.boxes[contours][level]


@dataclass(frozen=True)
class Picture:
    """A panel that is a picture rather than a heatmap: no threshold, no box.

    Attributes:
        backbone: the name it was loaded by.
        method: the picture's name in PICTURES.
        target: the class that was explained.
        pixels: (h,w,3) uint8 on the feature grid.
        legend: what each colour means, (label, "#rrggbb"); empty where colours have no names.
        numbers: the picture's own numbers by name.
        space: the feature space that it was computed in.
        exact: see `Features.exact`.
        milliseconds: time that it took beyond the shared forward pass.
    """

    backbone: str
    method: str
    target: ClassScore
    pixels: NDArray[np.uint8]
    legend: tuple[tuple[str, str], ...] = ()
    numbers: Mapping[str, Number] = field(default_factory=dict)
    space: Space = "logit"
    exact: bool = True
    milliseconds: float = 0.0
