import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from wsolviz import METHODS, PICTURES, Features
from wsolviz.analysis.pc1 import (
    border_is_bright,
    border_is_bright_paper,
    channel_samples,
    principal_components,
)


def make_features(channels=20, height=6, width=5, classes=3, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    feature_map = torch.randn(batch, channels, height, width, generator=generator)
    weight = torch.randn(classes, channels, generator=generator)
    bias = torch.randn(classes, generator=generator)
    return Features(feature_map, weight, bias, feature_map.mean((2, 3)) @ weight.T + bias)


def slow_samples(maps):
    """Min-max each channel by a plain loop, then take away the mean sample."""
    samples = []
    for channel in maps.astype(np.float64):
        flat = channel.ravel()
        spread = flat.max() - flat.min()
        samples.append((flat - flat.min()) / spread if spread else np.zeros_like(flat))
    return np.array(samples)


@pytest.mark.parametrize("channels", [4, 20, 60])
def test_components_and_shares_are_scikit_learns(channels):
    """Both Gram matrices: fewer channels than positions, and more."""
    features = make_features(channels=channels)
    weighted = features.feature_map * features.class_weight(1)[:, :, None, None]
    components, shares = principal_components(channel_samples(weighted), count=3)
    for image in range(2):
        pca = PCA(n_components=3, svd_solver="full").fit(slow_samples(weighted[image].numpy()))
        np.testing.assert_allclose(components[image], pca.components_, atol=1e-7)
        np.testing.assert_allclose(shares[image], pca.explained_variance_ratio_, atol=1e-9)


def test_samples_do_not_depend_on_how_the_map_lies_in_memory():
    maps = make_features(channels=30).feature_map
    maps[:, 3] = 1.5
    for layout in (torch.contiguous_format, torch.channels_last):
        samples = channel_samples(maps.contiguous(memory_format=layout))
        for image in range(2):
            slow = slow_samples(maps[image].numpy())
            np.testing.assert_allclose(samples[image], slow - slow.mean(axis=0), atol=1e-14)


@pytest.mark.parametrize("seed", range(20))
def test_sign_rule_makes_most_of_the_border_dark(seed):
    features = make_features(seed=seed)
    heatmap, numbers = METHODS["pc1"].run(features, 2)
    weighted = features.feature_map * features.class_weight(2)[:, :, None, None]
    for image in range(2):
        start = PCA(1).fit(slow_samples(weighted[image].numpy())).components_[0].reshape(6, 5)
        border = [
            start[y, x] > start.mean()
            for y in range(6)
            for x in range(5)
            if y in (0, 5) or x in (0, 4)
        ]
        flip = sum(border) > len(border) / 2
        assert bool(numbers["sign_flipped"][image]) == flip
        np.testing.assert_allclose(heatmap[image], -start if flip else start, atol=1e-7)


def test_paper_rule_looks_at_its_own_crooked_ring():
    """On 5×5 the paper zeroes rows and columns 1 and 2, so 3 and 4 both count as border."""
    heatmap = torch.zeros(1, 5, 5)
    heatmap[0, 3, :] = 1
    heatmap[0, :, 3] = 1  # nine bright cells: more than 0.5·4·(5−1) = 8
    assert border_is_bright_paper(heatmap).item()
    assert not border_is_bright(heatmap).item()  # four of the ring's sixteen
    heatmap[0, 3, 3] = 0  # eight: not more
    assert not border_is_bright_paper(heatmap).item()


def test_constant_maps_give_a_zero_heatmap_and_no_variance():
    features = Features(torch.ones(1, 4, 3, 3), torch.ones(2, 4), torch.zeros(2), torch.zeros(1, 2))
    heatmap, numbers = METHODS["pc1"].run(features, 0)
    assert heatmap.abs().max() == 0
    assert numbers["explained_variance"].item() == 0


def test_eigen_is_pc1_with_all_weights_one():
    features = make_features()
    ones = Features(features.feature_map, torch.ones(3, 20), features.bias, features.logits)
    torch.testing.assert_close(METHODS["eigen"](features, 0), METHODS["pc1"](ones, 0))


def test_rgb_picture_holds_three_components_in_their_range():
    features = make_features(batch=1)
    picture, numbers = PICTURES["pc_rgb"].run(features, 1)
    weighted = features.feature_map * features.class_weight(1)[:, :, None, None]
    pca = PCA(3, svd_solver="full").fit(slow_samples(weighted[0].numpy()))
    expected = pca.components_.reshape(3, 6, 5)
    if METHODS["pc1"].run(features, 1)[1]["sign_flipped"].item():
        expected[0] *= -1
    low, high = (f(expected, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    np.testing.assert_allclose(picture[0], (expected - low) / (high - low), atol=1e-6)
    assert numbers["explained_variance"].item() == pytest.approx(
        pca.explained_variance_ratio_.sum()
    )


def test_a_map_of_one_position_is_not_an_error():
    heatmap = METHODS["pc1"](make_features(height=1, width=1), 0)
    assert heatmap.shape == (2, 1, 1)
    assert torch.isfinite(heatmap).all()
    assert torch.isfinite(PICTURES["pc_rgb"](make_features(height=1, width=1), 0)).all()
