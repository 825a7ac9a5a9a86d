"""Five panels with boxes at all levels, against a bare forward pass and against other packages.

    python -m benchmarks.panels

All sides take the same preprocessed photo through the same network and run in turns; each time is
the median over the turns. Ours goes the whole way: `extract`, five heatmaps, five score maps, and
the boxes of both contour policies at all 256 levels. The others give one heatmap each, at the
network's input size.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from rich.console import Console
from rich.table import Table
from torch import nn
from torchcam.methods import CAM

from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.timm_backbone import as_backbone
from wsolviz.explain import Inspection
from wsolviz.photo import Photo
from wsolviz.views import View

# The network, its last map's layer and its classifier, which the other packages must be told.
MODELS = {
    "resnet50": ("layer4", "fc"),
    "convnext_tiny": ("stages", "head.fc"),
    "convnext_base": ("stages", "head.fc"),
}
PANELS = ("cam", "pc1", "feature_norm", "cosine", "eigen")
CLASS = 281
PHOTO = Photo(Image.new("RGB", (384, 384)))  # only its size counts here: 384×384 score maps


def five_panels(backbone: Backbone, images: torch.Tensor) -> None:
    """What `explain` does behind the reading of the photo."""
    inspection = Inspection(PHOTO, backbone, (View(backbone.extract(images)),), 0.0)
    for panel in [inspection.start(name, CLASS) for name in PANELS]:
        panel.result()


def torchcam_cam(model: nn.Module, layers: tuple[str, str], images: torch.Tensor) -> None:
    with CAM(model, target_layer=layers[0], fc_layer=layers[1]) as extractor, torch.no_grad():
        extractor(CLASS, model(images))


def gradcam_package(model: nn.Module, layer: str, images: torch.Tensor) -> None:
    with GradCAM(model, [model.get_submodule(layer)]) as cam:
        cam(images, [ClassifierOutputTarget(CLASS)])


def medians(sides: dict[str, Callable[[], None]], turns: int) -> dict[str, float]:
    """Milliseconds of each side, the sides taking turns after one turn that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(name: str, size: int, turns: int) -> dict[str, float]:
    model = timm.create_model(name).eval()
    ours = as_backbone(name, timm.create_model(name), WeightsInfo("random"))
    ours.module.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    def bare_forward() -> None:
        with torch.inference_mode():
            model(images)

    return medians(
        {
            "bare forward": bare_forward,
            "five panels": lambda: five_panels(ours, images),
            "torchcam CAM": lambda: torchcam_cam(model, MODELS[name], images),
            "grad-cam GradCAM": lambda: gradcam_package(model, MODELS[name][0], images),
        },
        turns,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    table = Table(
        "network", title=f"{options.size}×{options.size}, milliseconds and × bare forward"
    )
    for index, name in enumerate(options.models):
        found = measure(name, options.size, options.turns)
        if index == 0:
            for side in found:
                table.add_column(side, justify="right")
        bare = found["bare forward"]
        table.add_row(name, *(f"{value:.0f}  {value / bare:.2f}×" for value in found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
