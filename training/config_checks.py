"""Which values of a configuration do not go together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from training.methods import METHODS
from wsolviz.methods import find_method

if TYPE_CHECKING:
    from training.config import AugmentationConfig, TrainingConfig

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def contradictions(config: TrainingConfig) -> Iterator[str]:
    """A line for each: the key's path, what is wrong, what is allowed."""
    if not FILE_NAME.fullmatch(config.name):
        yield (
            f"name: {config.name!r} names no folder and no file; allowed: up to 100 letters, "
            "digits, ., _ and -, the first a letter or a digit."
        )
    if config.batch_size % config.accumulate:
        yield (
            f"batch_size: {config.batch_size} photos cannot be parted into "
            f"accumulate = {config.accumulate} equal parts; allowed: a multiple of it."
        )
    yield from _schedule(config)
    yield from _crop(config.augmentation, config.data.image_size)
    augmentation = config.augmentation
    if METHODS[config.method.name].mixes_images and (augmentation.mixup or augmentation.cutmix):
        yield (
            f"augmentation: the method {config.method.name} mixes images itself; allowed beside "
            "it: mixup = 0 and cutmix = 0."
        )
    if METHODS[config.method.name].mixes_images and config.distillation is not None:
        yield (
            f"distillation: the method {config.method.name} mixes images itself, which the teacher "
            "would see unmixed; allowed with it: null. The method cam with augmentation.cutmix "
            "gives both the same images."
        )
    if METHODS[config.method.name].needs_maps:
        yield from _maps(config)
    for index, name in enumerate(config.validation.methods):
        try:
            find_method(name)
        except ValueError as error:
            yield f"validation.methods.{index}: {error}"


def _maps(config: TrainingConfig) -> Iterator[str]:
    name, augmentation = config.method.name, config.augmentation
    for index, source in enumerate(config.data.train):
        if source.kind == "webdataset":
            yield (
                f"data.train.{index}.kind: the method {name} learns from a map of each photo, "
                "found by the photo's name; allowed with it: metadata or folders."
            )
    for key in ("rand_augment", "mixup", "cutmix"):
        if getattr(augmentation, key):
            yield (
                f"augmentation.{key}: it moves or mixes pixels, over which the maps of the method "
                f"{name} would no longer lie; allowed with it: crop, flip, color_jitter and "
                "random_erasing."
            )


def _schedule(config: TrainingConfig) -> Iterator[str]:
    schedule, epochs = config.schedule, config.epochs
    if schedule.warmup_epochs > epochs:
        yield (
            f"schedule.warmup_epochs: {schedule.warmup_epochs:g} is more than epochs = {epochs}; "
            "allowed: at most that many."
        )
    if schedule.name != "step":
        return
    milestones = schedule.milestones
    rising = all(a < b for a, b in itertools.pairwise(milestones))
    if not milestones or not rising or milestones[-1] >= epochs:
        yield (
            f"schedule.milestones: {list(milestones)}; allowed with the schedule step: at least "
            f"one epoch, in rising order, all below epochs = {epochs}."
        )


def _crop(augmentation: AugmentationConfig, image_size: int) -> Iterator[str]:
    resize = augmentation.resize
    if augmentation.crop == "random" and (resize is None or resize < image_size):
        yield (
            f"augmentation.resize: {'null' if resize is None else resize}; allowed with the crop "
            f"random: at least data.image_size = {image_size}, since the input is cut out of it."
        )
    for key in ("crop_area", "crop_ratio"):
        low, high = getattr(augmentation, key)
        if low > high:
            yield f"augmentation.{key}: [{low:g}, {high:g}]; allowed: the smaller one first."
