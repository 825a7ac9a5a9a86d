"""Gradient and perturbation methods of the `grad-cam` package, run on this project's features.

The package wants a model and a layer. It gets the network's head as the model and the feature map
as its input, so that only the head is run again, once for each gradient; ScoreCAM alone runs the
whole network. Heatmaps come back on the feature grid, raw, after each method's own ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytorch_grad_cam.ablation_cam
import pytorch_grad_cam.score_cam
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import (
    AblationCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget, FinerWeightedTarget
from torch import nn

from wsolviz.methods import method
from wsolviz.progress import report
from wsolviz.types import ClassIndex, Features, Replay

# Finer-CAM (Zhang et al., CVPR 2025) compares with the three most similar classes at full strength.
FINER_REFERENCES = 3
FINER_ALPHA = 1.0


def _reported(steps: Sequence[int]) -> Iterator[int]:
    """Go through the batches of a slow method, reporting each."""
    for done, step in enumerate(steps):
        report(done / len(steps), f"batch {done + 1} of {len(steps)}")
        yield step


# The two slow methods draw a bar on the terminal; here they report to whoever listens, who can
# then also stop them.
pytorch_grad_cam.score_cam.tqdm = SimpleNamespace(tqdm=_reported)
pytorch_grad_cam.ablation_cam.tqdm = SimpleNamespace(tqdm=_reported)


class _Head(nn.Module):
    """The network behind its feature map: (B,C,h,w) to (B,K)."""

    def __init__(self, replay: Replay) -> None:
        super().__init__()
        self.feature_map = nn.Identity()
        self.logits_from_map = replay.logits_from_map
        # grad-cam reads the device off the first parameter.
        self.device = nn.Parameter(replay.activation.new_empty(0), requires_grad=False)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        return self.logits_from_map(self.feature_map(activation))


class _Network(_Head):
    """The whole network, (B,3,H,W) to (B,K), which shows grad-cam the map that is known already."""

    def __init__(self, replay: Replay) -> None:
        super().__init__(replay)
        self.logits_from_images = replay.logits_from_images
        self.activation = replay.activation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.feature_map(self.activation)
        return self.logits_from_images(images)


def _on_feature_grid(cam_class: type[BaseCAM]) -> type[BaseCAM]:
    """Derive from one of grad-cam's classes one that leaves out its resize and min-max."""

    class OnFeatureGrid(cam_class):  # type: ignore[misc]
        def get_target_width_height(self, input_tensor: torch.Tensor) -> tuple[int, int]:
            height, width = self.activations_and_grads.activations[0].shape[-2:]
            return width, height

        def aggregate_multi_layers(self, maps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
            return maps[0][:, 0]

        def compute_cam_per_layer(
            self, input_tensor: torch.Tensor, targets: list[nn.Module], eigen_smooth: bool
        ) -> list[NDArray[np.float32]]:
            (activations,) = (a.numpy() for a in self.activations_and_grads.activations[:1])
            gradients = self.activations_and_grads.gradients
            cam = self.get_cam_image(
                input_tensor,
                self.target_layers[0],
                targets,
                activations,
                gradients[0].numpy() if gradients else None,
                eigen_smooth,
            )
            return [np.maximum(cam, 0)[:, None]]

    return OnFeatureGrid


def _replay_of(features: Features) -> Replay:
    """How to run the head again; features made by hand have one where they are exact."""
    if features.replay is not None:
        return features.replay
    if not features.exact:
        raise ValueError(
            "A gradient method runs the network's head again. Take features that backbone.extract "
            "made, or exact ones, whose head is mean_hw(feature_map) @ weight.T + bias."
        )

    def logits_from_map(maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3)) @ features.weight.T + features.bias

    def logits_from_images(images: torch.Tensor) -> torch.Tensor:
        raise ValueError(
            "ScoreCAM runs the whole network again; take features that backbone.extract made."
        )

    no_images = features.feature_map.new_empty((len(features.logits), 3, 0, 0))
    return Replay(features.feature_map, logits_from_map, no_images, logits_from_images)


def _run(
    cam_class: type[BaseCAM],
    network: _Head,
    inputs: torch.Tensor,
    targets: list[Callable[[torch.Tensor], torch.Tensor]],
    **options: object,
) -> torch.Tensor:
    cam = _on_feature_grid(cam_class)(network, [network.feature_map], **options)
    cam.compute_input_gradient = cam.uses_gradients
    try:
        with torch.set_grad_enabled(cam.uses_gradients):
            return torch.from_numpy(cam(inputs.detach(), targets)).to(inputs.device)
    finally:
        cam.activations_and_grads.release()


def _class_targets(features: Features, class_index: ClassIndex) -> list[ClassifierOutputTarget]:
    return [ClassifierOutputTarget(int(k)) for k in features.class_indices(class_index)]


def _run_on_head(
    cam_class: type[BaseCAM], features: Features, class_index: ClassIndex, **options: object
) -> torch.Tensor:
    replay = _replay_of(features)
    targets = _class_targets(features, class_index)
    return _run(cam_class, _Head(replay), replay.activation, targets, **options)


@method("gradcam", "Grad-CAM", cost="gradient")
def gradcam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Grad-CAM: channels weighted by their mean gradient (Selvaraju et al., ICCV 2017)."""
    return _run_on_head(GradCAM, features, class_index)


@method("gradcam_plusplus", "Grad-CAM++", cost="gradient")
def gradcam_plusplus(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Grad-CAM++: positive gradients weighted by position (Chattopadhay et al., WACV 2018)."""
    return _run_on_head(GradCAMPlusPlus, features, class_index)


@method("layercam", "LayerCAM", cost="gradient")
def layercam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """LayerCAM: every position weighted by its own positive gradient (Jiang et al., TIP 2021)."""
    return _run_on_head(LayerCAM, features, class_index)


@method("hirescam", "HiResCAM", cost="gradient")
def hirescam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """HiResCAM: gradient times activation at every position (Draelos & Carin, 2020)."""
    return _run_on_head(HiResCAM, features, class_index)


@method("xgradcam", "XGrad-CAM", cost="gradient")
def xgradcam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """XGrad-CAM: gradients weighted by normalized activations (Fu et al., BMVC 2020)."""
    return _run_on_head(XGradCAM, features, class_index)


@method("finercam", "Finer-CAM", cost="gradient")
def finercam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Finer-CAM: what sets the class apart from its three nearest ones (Zhang et al., CVPR 2025).

    Raises:
        ValueError: a backbone with a single class.
    """
    replay = _replay_of(features)
    if features.num_classes < 2:
        raise ValueError("Finer-CAM compares classes, and this backbone has only one.")
    targets = []
    for logits, index in zip(features.logits, features.class_indices(class_index), strict=True):
        nearness = (logits - logits[index]).abs()
        nearness[index] = torch.inf
        count = min(FINER_REFERENCES, len(logits) - 1)
        references = nearness.topk(count, largest=False).indices.tolist()
        targets.append(FinerWeightedTarget(int(index), references, FINER_ALPHA))
    return _run(GradCAM, _Head(replay), replay.activation, targets)


@method("ablationcam", "Ablation-CAM", cost="slow")
def ablationcam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Ablation-CAM: how far the class falls without each channel (Desai & Ramaswamy, WACV 2020)."""
    # grad-cam's default is one layer shared by all calls; a fresh one is safe between threads.
    return _run_on_head(AblationCAM, features, class_index, ablation_layer=AblationLayer())


@method("scorecam", "Score-CAM", cost="slow")
def scorecam(features: Features, class_index: ClassIndex = None) -> torch.Tensor:
    """Score-CAM: the class score of the photo through each channel (Wang et al., CVPRW 2020)."""
    replay = _replay_of(features)
    targets = _class_targets(features, class_index)
    return _run(ScoreCAM, _Network(replay), replay.images, targets)
