"""Maps to learn from: the seed's mean over the places that look alike, by a slow obvious way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.training.data.conftest import root as root  # noqa: PLC0414  (a fixture)
from training.config import DataConfig, MetadataSource
from training.data import open_sources
from training.losses import map_correlation_loss, map_square_loss
from training.target_maps import (
    MapTeacherConfig,
    affinity,
    kept_maps,
    make_maps,
    passed_on,
    sharpened,
    teacher_maps,
)
from wsolviz.backends.base import Backbone
from wsolviz.backends.loading import load_backbone
from wsolviz.methods import METHODS

CONFIG = MapTeacherConfig(
    backbone="timm/test_efficientnet", image_size=64, layers=("blocks", "conv_head")
)


def scaled(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / max(values.max() - values.min(), 1e-12)


def test_each_place_takes_the_mean_of_the_places_that_are_like_it() -> None:
    torch.manual_seed(0)
    features, seed = torch.randn(2, 5, 3, 4), torch.rand(2, 3, 4)
    given = passed_on(seed, [features], exponent=1.5, steps=2)
    for image in range(2):
        vectors = features[image].flatten(1).T.double().numpy()
        vectors = vectors - vectors.mean(axis=0)
        values = seed[image].flatten().double().numpy()
        for _ in range(2):
            passed = np.empty(12)
            for u in range(12):
                weights = []
                for v in range(12):
                    lengths = np.linalg.norm(vectors[u]) * np.linalg.norm(vectors[v])
                    weights.append(max(vectors[u] @ vectors[v] / lengths, 0) ** 1.5)
                passed[u] = np.average(values, weights=weights)
            values = passed
        expected = scaled(values).reshape(3, 4)
        np.testing.assert_allclose(given[image].numpy(), expected, atol=1e-5)


def test_what_is_alike_everywhere_passes_the_mean_on() -> None:
    """One direction and its opposite: each half of the image takes its own half's mean."""
    features = torch.ones(1, 3, 4, 4)
    features[..., 2:] = -1
    rows = affinity(features, 2.0)[0].reshape(16, 4, 4)
    assert torch.allclose(rows[0], torch.tensor([0.125, 0.125, 0, 0]).expand(4, 4))
    assert torch.allclose(rows[3], torch.tensor([0, 0, 0.125, 0.125]).expand(4, 4))


def test_several_maps_are_averaged_and_constant_ones_say_nothing() -> None:
    torch.manual_seed(1)
    seed, features = torch.rand(1, 3, 3), [torch.randn(1, 4, 3, 3), torch.randn(1, 6, 3, 3)]
    apart = [passed_on(seed, [one], 2.0, 1) for one in features]
    mean = ((apart[0] + apart[1]) / 2)[0].numpy()
    together = passed_on(seed, features, 2.0, 1)[0].numpy()
    np.testing.assert_allclose(together, scaled(mean), atol=1e-6)
    assert passed_on(seed, [torch.ones(1, 4, 3, 3)], 2.0, 1).eq(0).all()


@pytest.fixture
def teacher() -> Backbone:
    torch.manual_seed(0)
    return load_backbone("timm/test_efficientnet", weights=None, num_classes=3)


def test_the_seed_is_cam_and_norm_of_the_projects_own_methods(teacher: Backbone) -> None:
    torch.manual_seed(2)
    images, target = torch.randn(2, 3, 64, 64), torch.tensor([2, 0])
    given = teacher_maps(teacher, images, target, CONFIG)
    ways = []
    for view in (images, images.flip(-1)):
        features = teacher.extract(view)
        cam = METHODS["cam"](features, target).numpy()
        norm = METHODS["feature_norm"](features).numpy()
        seeds = [scaled(scaled(c) + 0.75 * scaled(n)) for c, n in zip(cam, norm, strict=True)]
        seed = torch.tensor(np.stack(seeds))
        maps = [teacher.module.blocks(teacher.module.bn1(teacher.module.conv_stem(view)))]  # type: ignore[operator]
        maps.append(teacher.module.conv_head(maps[0]))  # type: ignore[operator]
        ways.append(passed_on(seed, maps, CONFIG.exponent, CONFIG.steps))
    both = (ways[0] + ways[1].flip(-1)).detach().numpy()
    expected = np.stack([scaled(one) for one in both])
    np.testing.assert_allclose(given.numpy(), expected, atol=1e-4)


def test_a_sharpened_map_is_a_sigmoid_between_its_own_ends() -> None:
    maps = torch.tensor([[[0.0, 0.3], [0.4, 1.0]]])
    values = [1 / (1 + np.exp(-8 * (value - 0.4))) for value in (0.0, 0.3, 0.4, 1.0)]
    expected = scaled(np.array(values)).reshape(2, 2)
    np.testing.assert_allclose(sharpened(maps, 8.0, 0.4)[0].numpy(), expected, atol=1e-6)
    assert torch.equal(sharpened(maps, 0.0, 0.4), maps)


def test_maps_are_made_once_and_kept(
    root: Path, tmp_path: Path, teacher: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "images" / "train" / "04.png").write_bytes(b"no picture")
    data = DataConfig(train=(MetadataSource(kind="metadata", root=str(root)),))
    photos = open_sources(data).with_own_classes()
    teacher.class_names = photos.class_names
    passes = []

    def counted(*inputs: Any) -> torch.Tensor:
        passes.append(len(inputs[1]))
        return teacher_maps(*inputs)

    monkeypatch.setattr("training.target_maps.load_backbone", lambda *_, **__: teacher)
    monkeypatch.setattr("training.target_maps.teacher_maps", counted)
    path = tmp_path / "maps.npz"
    made = make_maps(photos, CONFIG, torch.device("cpu"), path)  # type: ignore[arg-type]
    again = make_maps(photos, CONFIG, torch.device("cpu"), path)  # type: ignore[arg-type]
    assert sum(passes) == len(photos) - 1  # each photo once, but for the broken one
    assert set(made) == set(photos.image_ids)  # type: ignore[union-attr]
    for image_id, values in made.items():
        assert np.array_equal(values, again[image_id])
        assert values.any() == (image_id != "train/04.png")
    assert kept_maps(tmp_path / "none.npz", "") is None
    for other in (replace(photos, labels=photos.labels[::-1]), photos):  # and what is asked anew
        sharper = CONFIG.model_copy(update={"sharpness": 4.0}) if other is photos else CONFIG
        make_maps(other, sharper, torch.device("cpu"), path)  # type: ignore[arg-type]
    assert sum(passes) == 3 * (len(photos) - 1)


def test_other_weights_in_a_file_of_the_same_name_make_other_maps(
    root: Path, tmp_path: Path
) -> None:
    data = DataConfig(train=(MetadataSource(kind="metadata", root=str(root)),))
    photos = open_sources(data).with_own_classes()
    weights, kept = tmp_path / "teacher.safetensors", tmp_path / "maps.npz"
    config = CONFIG.model_copy(update={"weights": str(weights)})
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        teacher = load_backbone("timm/test_efficientnet", weights=None, num_classes=3)
        save_file(teacher.module.state_dict(), weights)
        made.append(make_maps(photos, config, torch.device("cpu"), kept))  # type: ignore[arg-type]
    anew = make_maps(photos, config, torch.device("cpu"), tmp_path / "anew.npz")  # type: ignore[arg-type]
    first, second = made
    assert all(np.array_equal(second[image_id], values) for image_id, values in anew.items())
    assert any(not np.array_equal(first[image_id], values) for image_id, values in anew.items())


def test_a_teacher_with_other_classes_is_refused(
    root: Path, tmp_path: Path, teacher: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig(train=(MetadataSource(kind="metadata", root=str(root)),))
    photos = open_sources(data).with_own_classes()
    teacher.class_names = ("yew", "oak", "fir")
    monkeypatch.setattr("training.target_maps.load_backbone", lambda *_, **__: teacher)
    with pytest.raises(ValueError, match=r"method\.teacher .* has other classes than the network"):
        make_maps(photos, CONFIG, torch.device("cpu"), tmp_path / "maps.npz")  # type: ignore[arg-type]


def test_map_losses_by_numpy() -> None:
    torch.manual_seed(3)
    cam, taught = torch.randn(3, 4, 5), torch.rand(3, 4, 5)
    squares, correlations = [], []
    for mine, theirs in zip(cam.numpy(), taught.numpy(), strict=True):
        squares.append(((scaled(mine) - scaled(theirs)) ** 2).mean())
        correlations.append(np.corrcoef(mine.ravel(), theirs.ravel())[0, 1])
    assert float(map_square_loss(cam, taught)) == pytest.approx(np.mean(squares), abs=1e-6)
    expected = 1 - np.mean(correlations)
    assert float(map_correlation_loss(cam, taught)) == pytest.approx(expected, abs=1e-6)
    flat = torch.ones(1, 4, 5)
    assert float(map_correlation_loss(flat, taught[:1])) == 1.0
