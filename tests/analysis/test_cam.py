import math

import pytest
import torch

from tests.analysis.test_pc1 import make_features
from wsolviz import METHODS, PICTURES, Features
from wsolviz.analysis.decomposition import decompose
from wsolviz.types import Replay


def test_cam_is_the_weighted_sum_by_plain_loops():
    features = make_features(channels=4, height=2, width=3)
    cam = METHODS["cam"](features, [0, 2])
    for image, k in enumerate((0, 2)):
        for y in range(2):
            for x in range(3):
                expected = sum(
                    float(features.weight[k, c] * features.feature_map[image, c, y, x])
                    for c in range(4)
                )
                assert float(cam[image, y, x]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_cam_plus_bias_averages_to_the_logit():
    features = make_features()
    for k in range(3):
        mean = METHODS["cam"](features, k).mean(dim=(1, 2)) + features.bias[k]
        torch.testing.assert_close(mean, features.logits[:, k])


def test_the_class_defaults_to_each_images_own_top_1():
    features = make_features(seed=3, batch=6)
    top = features.logits.argmax(dim=1)
    assert len(set(top.tolist())) > 1, "the test needs images of different classes"
    torch.testing.assert_close(METHODS["cam"](features), METHODS["cam"](features, top))


def test_norms_and_cosine_by_plain_loops_multiply_to_cam():
    features = make_features(channels=5)
    parts = decompose(features, 1)
    cam = METHODS["cam"](features, 1)
    product = parts.weight_norm[:, None, None] * parts.feature_norm * parts.cosine
    torch.testing.assert_close(product, cam)
    for image in range(2):
        for y in range(6):
            for x in range(5):
                f = features.feature_map[image, :, y, x].tolist()
                w = features.weight[1].tolist()
                length = math.sqrt(sum(v * v for v in f))
                cosine = sum(a * b for a, b in zip(f, w, strict=True)) / (
                    length * math.sqrt(sum(v * v for v in w))
                )
                assert float(parts.feature_norm[image, y, x]) == pytest.approx(length, rel=1e-5)
                assert float(parts.cosine[image, y, x]) == pytest.approx(cosine, abs=1e-5)
    torch.testing.assert_close(METHODS["feature_norm"](features), parts.feature_norm)
    torch.testing.assert_close(METHODS["cosine"](features, 1), parts.cosine)


def test_cosine_is_zero_where_the_feature_or_the_weight_is():
    feature_map = torch.zeros(1, 3, 2, 2)
    feature_map[0, :, 0, 0] = 1
    features = Features(feature_map, torch.eye(2, 3), torch.zeros(2), torch.zeros(1, 2))
    cosine = METHODS["cosine"](features, 0)
    assert cosine[0, 0, 0].item() == pytest.approx(3**-0.5)
    assert cosine.flatten()[1:].tolist() == [0, 0, 0]
    no_weight = Features(feature_map, torch.zeros(2, 3), torch.zeros(2), torch.zeros(1, 2))
    assert METHODS["cosine"](no_weight, 0).abs().max() == 0


def test_winning_class_by_plain_loops():
    features = make_features(classes=7)
    winners = PICTURES["winning_class"](features)
    for image in range(2):
        for y in range(6):
            for x in range(5):
                scores = [
                    float(features.weight[k] @ features.feature_map[image, :, y, x])
                    + float(features.bias[k])
                    for k in range(7)
                ]
                assert winners[image, y, x] == scores.index(max(scores))


@pytest.mark.parametrize("wrong", [3, -1, [0, 1, 2], [[0, 1]]])
def test_a_class_that_is_not_there_is_refused_with_what_is_allowed(wrong):
    with pytest.raises(ValueError, match=r"allowed are"):
        METHODS["cam"](make_features(), wrong)


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(ValueError, match=r"Did you mean 'cosine'\?.*Known: cam, pc1"):
        METHODS["cosin"]


def test_the_gradient_of_an_inexact_head_is_computed_once_for_all_panels():
    """A head with a square in it: d logit_k / d v_c = 2·v_c·w_kc, whatever the map's size."""
    made = make_features()
    replays = []

    def logits_from_map(maps):
        replays.append(len(maps))
        return maps.mean(dim=(2, 3)).square() @ made.weight.T

    logits = logits_from_map(made.feature_map).detach()
    images = torch.zeros(2, 3, 8, 8)
    replay = Replay(made.feature_map, logits_from_map, images, lambda x: x)
    empty = made.weight[:0]
    features = Features(made.feature_map, empty, empty[:, 0], logits, exact=False, replay=replay)
    pooled = made.feature_map.mean(dim=(2, 3))
    for k in (1, 2):
        torch.testing.assert_close(features.class_weight(k), 2 * pooled * made.weight[k])
        for name in ("cam", "pc1", "cosine"):
            METHODS[name](features, k)
    assert len(replays) == 1 + 2, "one for the logits and one for each class"
