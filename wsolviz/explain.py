"""The one data path, end to end: a photo and a backbone in, explanations out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import torch

from wsolviz.analysis.boxes import boxes_of_each_policy
from wsolviz.analysis.scoremap import merged_scoremap
from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import on_eviction
from wsolviz.cache import ByteBoundedCache
from wsolviz.classes import ClassChoice, find_class
from wsolviz.defaults import DEFAULTS
from wsolviz.methods import PICTURES, Numbers, Panel, find_method, find_panel
from wsolviz.panel_workers import workers
from wsolviz.photo import Photo, PhotoSource, read_photo
from wsolviz.render import picture_pixels
from wsolviz.types import ClassScore, Explanation, Features, Number, Picture, Space
from wsolviz.views import ONE_VIEW, View, ViewOptions, mean_logits, take_views


class _Common(TypedDict):
    """What explanations and pictures have in common."""

    backbone: str
    method: str
    target: ClassScore
    numbers: dict[str, Number]
    space: Space
    exact: bool
    milliseconds: float


@dataclass(frozen=True)
class RawPanel:
    """A panel as the method gave it.

    Attributes:
        panel: the method or picture.
        target: the class that was explained.
        results: of each view, (h,w) heatmap, (3,h,w) colours or (h,w) class indices, on the CPU.
        numbers: the method's numbers, of the first view.
        milliseconds: time that it took.
    """

    panel: Panel
    target: ClassScore
    results: tuple[torch.Tensor, ...]
    numbers: dict[str, Number]
    milliseconds: float


@dataclass(frozen=True)
class Inspection:
    """One photo seen by one backbone: the forward pass is done, every panel follows from it.

    Attributes:
        photo: as it was read.
        backbone: the network.
        views: of this one photo, B = 1.
        milliseconds: time of preprocessing and forward passes.
    """

    photo: Photo
    backbone: Backbone
    views: tuple[View, ...]
    milliseconds: float
    _panels: dict[tuple[str, int], RawPanel] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def features(self) -> Features:
        """Of the first view."""
        return self.views[0].features

    @property
    def logits(self) -> torch.Tensor:
        """(K,), the mean over the views."""
        return mean_logits(self.views)[0]

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels, in the first view."""
        return self.features.input_size

    def score(self, class_index: int) -> ClassScore:
        """Name, probability and logit of one class."""
        logits = self.logits
        names = self.backbone.class_names
        return ClassScore(
            index=class_index,
            name=names[class_index] if names else f"class {class_index}",
            probability=float(logits.softmax(dim=0)[class_index]),
            logit=float(logits[class_index]),
        )

    def top(self, count: int = DEFAULTS.top_classes) -> list[ClassScore]:
        """The classes of highest probability, best first."""
        best = self.logits.topk(min(count, self.features.num_classes))
        return [self.score(int(index)) for index in best.indices]

    def resolve(self, chosen: ClassChoice) -> int:
        """The index of a class given as None (the top-1), an index or a name.

        Raises:
            ValueError: a class that this backbone does not have.
        """
        if chosen is None:
            return int(self.logits.argmax())
        return find_class(chosen, self.features.num_classes, self.backbone.class_names)

    def compute(self, name: str, chosen: ClassChoice = None) -> RawPanel:
        """One method's heatmap or one picture, still on the feature grid; kept for the next call.

        Raises:
            UnknownNameError: no such method or picture.
            ValueError: no such class, or a method that this backbone does not allow.
        """
        key = (name, self.resolve(chosen))
        if key not in self._panels:
            self._panels[key] = self._run(*key)
            _inspections.recount(self)
        return self._panels[key]

    def _run(self, name: str, class_index: int) -> RawPanel:
        panel = find_panel(name)
        target = self.score(class_index)
        start = time.perf_counter()
        views = self.views[:1] if name in PICTURES else self.views
        found = [view.run(panel, target.index) for view in views]
        results = tuple(result[0].cpu() for result, _ in found)
        milliseconds = 1000 * (time.perf_counter() - start)
        return RawPanel(panel, target, results, plain_numbers(found[0][1]), milliseconds)

    def finish(self, raw: RawPanel) -> Explanation | Picture:
        """The score map and the boxes of a heatmap, or the pixels of a picture."""
        common = _Common(
            backbone=self.backbone.name,
            method=raw.panel.name,
            target=raw.target,
            numbers=raw.numbers,
            space=self.features.space,
            exact=self.features.exact,
            milliseconds=raw.milliseconds,
        )
        if raw.panel.name in PICTURES:
            pixels, legend = picture_pixels(raw.results[0], self.backbone.class_names)
            return Picture(pixels=pixels, legend=legend, **common)
        # Copies: the raw panel is kept, and who gets a heatmap may write into it.
        heatmaps = [np.array(result.float()) for result in raw.results]
        scores = merged_scoremap(heatmaps, display_grid(self.photo.size))
        single = len(heatmaps) == 1
        return Explanation(
            heatmap=heatmaps[0] if single else scores.astype(np.float32),
            scoremap=scores,
            boxes=boxes_of_each_policy(scores, workers.both),
            image_size=self.photo.size,
            signed=raw.panel.signed and single,
            **common,
        )

    def panel(self, name: str, chosen: ClassChoice = None) -> Explanation | Picture:
        """`compute`, then `finish`; see there for what is raised."""
        return self.finish(self.compute(name, chosen))

    def start(self, name: str, chosen: ClassChoice = None) -> Future[Explanation | Picture]:
        """`panel` in a thread of its own, beside others; what it raises, the result raises.

        What runs a part of the network again is computed before this returns, on all cores.
        """
        if find_panel(name).cost == "free" and len(self.features.weight):
            return workers.pool.submit(self.panel, name, chosen)
        return workers.pool.submit(self.finish, self.compute(name, chosen))


def plain_numbers(numbers: Numbers) -> dict[str, Number]:
    """The first image's numbers as Python's own types."""
    return {name: values[0].item() for name, values in numbers.items()}


def display_grid(size: tuple[int, int], longest: int = DEFAULTS.display_size) -> tuple[int, int]:
    """(height, width) of the score map of a photo of `size` (width, height), same proportions.

    >>> display_grid((4000, 3000))
    (288, 384)
    """
    scale = longest / max(size)
    width, height = (max(1, round(side * scale)) for side in size)
    return height, width


def inspect_photo(
    photo: PhotoSource,
    backbone: Backbone,
    space: Space = DEFAULTS.space,
    options: ViewOptions = ONE_VIEW,
) -> Inspection:
    """Run a backbone on a photo, and keep the features for the next call.

    Args:
        photo: a path, PIL image, array or `Photo`.
        backbone: from `load_backbone`.
        space: feature space, "logit" or "pre_norm".
        options: how large the network's input is, and how many views are taken.

    Raises:
        ValueError: a photo that cannot be read, or a size that the network refuses.
    """
    read = read_photo(photo)
    key = (read.digest, read.name, id(backbone), backbone.fingerprint, space, options)

    def run(_: object) -> Inspection:
        start = time.perf_counter()
        views = take_views(backbone, [read.image], space, options)
        return Inspection(read, backbone, views, 1000 * (time.perf_counter() - start))

    return _inspections.get(key, run)


def _bytes(inspection: Inspection) -> int:
    tensors = []
    for features in (view.features for view in inspection.views):
        tensors += [features.feature_map, features.logits]
        if features.replay is not None:
            tensors += [features.replay.activation, features.replay.images]
    for panel in tuple(inspection._panels.values()):  # another thread may be adding one
        tensors += panel.results
    held = {t.data_ptr(): t.numel() * t.element_size() for t in tensors}
    return sum(held.values()) + int(np.prod(inspection.photo.size)) * 3


_inspections: ByteBoundedCache[Inspection] = ByteBoundedCache(
    DEFAULTS.features_cache_bytes, size_of=_bytes
)


@on_eviction
def _forget(backbone: Backbone) -> None:
    """Let go of a backbone that left memory, which features of past photos would keep alive."""
    _inspections.discard(lambda inspection: inspection.backbone is backbone)


def explain(
    image: PhotoSource,
    backbone: Backbone,
    methods: Sequence[str] = DEFAULTS.methods,
    class_index: ClassChoice = None,
    *,
    space: Space = DEFAULTS.space,
    image_size: int | None = None,
    scales: Sequence[int] = (),
    flip: bool = False,
) -> list[Explanation]:
    """Explain one class of one photo by several methods, in one forward pass.

    Args:
        image: a path, PIL image, array (H,W,3) uint8 or `Photo`.
        backbone: from `load_backbone`.
        methods: names in METHODS, or sums such as "cam+0.5*feature_norm".
        class_index: None for the network's own top-1, an index, or a class name.
        space: feature space, "logit" or "pre_norm".
        image_size: side of the network's input in pixels; None for the backbone's own.
        scales: several such sides instead, whose score maps are averaged.
        flip: average with the mirrored photo, too.

    Returns:
        One `Explanation` for each method, in the same order.

    Raises:
        ValueError: an unknown method, class or space, or a photo that cannot be read.

    >>> import wsolviz
    >>> photo = np.zeros((20, 30, 3), dtype=np.uint8)
    >>> backbone = wsolviz.load_backbone("efficientnet_lite0")
    >>> cam, pc1 = wsolviz.explain(photo, backbone, ["cam", "pc1"])
    >>> cam.heatmap.shape, cam.scoremap.shape
    ((7, 7), (256, 384))
    """
    panels = [find_method(name).name for name in methods]
    options = ViewOptions(image_size, tuple(scales), flip)
    inspection = inspect_photo(image, backbone, space, options)
    started = [inspection.start(name, class_index) for name in panels]
    return [e for e in (panel.result() for panel in started) if isinstance(e, Explanation)]
