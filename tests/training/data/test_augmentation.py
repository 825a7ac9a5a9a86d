"""What happens to a photo before the network sees it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import wsolviz
from tests.training.data.conftest import PREPROCESSING, picture
from training.config import AugmentationConfig, RandAugmentConfig
from training.data import Augmentation
from training.data.randomness import Purpose, seeded

PLAIN = {"crop": "none", "flip": 0.0}


def augmented(photo: Image.Image, number: int = 1, **config) -> torch.Tensor:
    augmentation = Augmentation(AugmentationConfig(**config), PREPROCESSING, 3)
    with seeded(Purpose.PHOTO, 11):
        return torch.stack([augmentation(photo, "one")[0] for _ in range(number)])


def colours(images: torch.Tensor) -> np.ndarray:
    """What was normalized, in [0,255]."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (PREPROCESSING.mean, PREPROCESSING.std))
    return (255 * (images * std + mean)).numpy()


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/mobilenetv3_small_050"])
def test_with_nothing_to_draw_it_is_the_backbones_preprocessing(name):
    backbone = wsolviz.load_backbone(name, weights=None)
    augmentation = Augmentation(AugmentationConfig(**PLAIN), backbone.preprocessing, 3)
    for seed in range(3):
        photo = picture(seed)
        image, target_map = augmentation(photo, "one")
        assert torch.equal(image, backbone.preprocess(photo))
        assert target_map is None


def test_mirroring_alone_mirrors():
    photo = picture(1)
    mirrored = augmented(photo, crop="none", flip=1.0)
    assert torch.equal(mirrored.flip(-1)[0], PREPROCESSING(photo))


def test_colour_jitter_keeps_to_its_strength():
    grey = Image.new("RGB", (40, 40), (100, 100, 100))  # which contrast and saturation leave as is
    values = colours(augmented(grey, 400, color_jitter=0.2, **PLAIN))[:, 0, 0, 0]
    assert 79 <= values.min() < 84
    assert 116 < values.max() <= 121


def test_random_erasing_puts_the_mean_colour_in_a_rectangle_as_often_as_asked_for():
    white = Image.new("RGB", (40, 40), "white")
    images = augmented(white, 600, random_erasing=0.3, **PLAIN)
    erased = (images == 0).all(dim=1)
    share = erased.any(dim=2).any(dim=1).float().mean()
    assert abs(float(share) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 600)
    for hole in erased[erased.flatten(1).any(dim=1)]:
        rows, columns = hole.any(dim=1), hole.any(dim=0)
        assert torch.equal(hole, rows[:, None] & columns[None])


def test_rand_augment_changes_photos_and_shows_the_mean_colour_outside_them():
    white = Image.new("RGB", (64, 64), "white")
    config = RandAugmentConfig(num_ops=1, magnitude=30)
    images = colours(augmented(white, 200, rand_augment=config, **PLAIN))
    mean = np.array([round(255 * value) for value in PREPROCESSING.mean])[:, None, None]
    outside = (np.abs(images - mean) < 0.6).all(axis=1)
    moved = outside.mean(axis=(1, 2))
    assert 0.2 < np.mean(moved > 0.1) < 0.5  # 5 of its 14 operations move pixels
    assert len({image.tobytes() for image in images}) > 10


@pytest.mark.parametrize("chosen", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_a_mixed_batch_has_the_probabilities_of_what_was_mixed(chosen):
    augmentation = Augmentation(AugmentationConfig(**chosen), PREPROCESSING, 4)
    shades = torch.tensor([0.0, 1.0, 2.0, 3.0])
    images = shades[:, None, None, None].expand(4, 3, 32, 32).clone()
    target = torch.arange(4)
    for number in range(20):
        with seeded(Purpose.MIXING, number):
            mixed, soft_target = augmentation.mix(images, target)
        torch.testing.assert_close(soft_target.sum(dim=1), torch.ones(4))
        assert (soft_target >= 0).all()
        # A photo of class k has the shade k, so the mean shade is the expected class.
        torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), soft_target @ shades)
    if "cutmix" in chosen:
        assert set(mixed.unique().tolist()) <= set(shades.tolist())


def test_of_mixup_and_cutmix_one_is_drawn_for_each_batch():
    augmentation = Augmentation(AugmentationConfig(mixup=1.0, cutmix=1.0), PREPROCESSING, 2)
    images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 32, 32).clone()
    cut = 0
    for number in range(300):
        with seeded(Purpose.MIXING, number):
            mixed, _ = augmentation.mix(images, torch.tensor([0, 1]))
        cut += set(mixed.unique().tolist()) <= {0.0, 1.0}
    assert abs(cut / 300 - 0.5) < 5 * np.sqrt(0.25 / 300)


def test_the_photo_and_its_map_are_the_same_part():
    """The red channel of each photo is its map."""
    values = np.random.default_rng(4).random((6, 5)).astype(np.float32)
    smooth = np.asarray(Image.fromarray(values).resize((60, 50), Image.Resampling.BILINEAR))
    red = Image.fromarray((255 * smooth).round().astype(np.uint8))
    photo = Image.merge("RGB", (red, red, red))
    config = AugmentationConfig(crop="random_resized", crop_area=(0.3, 0.8), random_erasing=0.0)
    augmentation = Augmentation(config, PREPROCESSING, 3, {"one": smooth}, 32)
    for number in range(10):
        with seeded(Purpose.PHOTO, number):
            image, target_map = augmentation(photo, "one")
        assert target_map.shape == (32, 32)
        np.testing.assert_allclose(colours(image[None])[0, 0] / 255, target_map, atol=0.03)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"rand_augment": RandAugmentConfig()}, "rand_augment"),
        ({"mixup": 0.2}, "mixup"),
        ({"cutmix": 0.2}, "cutmix"),
    ],
)
def test_what_moves_pixels_is_refused_together_with_target_maps(config, named):
    with pytest.raises(ValueError, match=rf"augmentation\.{named}.*target maps"):
        Augmentation(AugmentationConfig(**config), PREPROCESSING, 3, {}, 7)


def test_a_crop_larger_than_what_it_is_cut_out_of_is_refused():
    with pytest.raises(ValueError, match=r"augmentation\.resize is 20.*32"):
        Augmentation(AugmentationConfig(resize=20), PREPROCESSING, 3)
    Augmentation(AugmentationConfig(resize=20, crop="none"), PREPROCESSING, 3)


@pytest.mark.parametrize("name", ["crop_area", "crop_ratio"])
def test_a_range_begins_with_its_smallest_value(name):
    with pytest.raises(ValueError, match=rf"augmentation\.{name} is 0\.9, 0\.5"):
        Augmentation(AugmentationConfig(**{name: (0.9, 0.5)}), PREPROCESSING, 3)
