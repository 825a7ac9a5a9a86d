"""The alignment losses against the paper's own code, loops in numpy and finite differences."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from training.losses import alignment_losses, drop_loss, min_max

REFERENCE = np.load(Path(__file__).parents[1] / "parity" / "alignment_losses.npz")
# Thresholds that the reference was made with, and whose cosine parts its norm loss.
SETTINGS = {"CUB": (0.4, 0.2, "max"), "ILSVRC": (0.28, 0.25, "target")}


def random_inputs(seed: int, batch: int = 3, channels: int = 5, classes: int = 4, side: int = 4):
    generator = torch.Generator().manual_seed(seed)
    feature_map = torch.randn(batch, channels, side, side, generator=generator).double()
    weight = torch.randn(classes, channels, generator=generator).double()
    return feature_map, weight, torch.randint(classes, (batch,), generator=generator)


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = math.sqrt(math.fsum(a * a)) * math.sqrt(math.fsum(b * b))
    return math.fsum(a * b) / lengths if lengths else 0.0


def in_loops(feature_map, weight, target, high: float, low: float, over: str):
    """Both losses, position by position."""
    sims, norms = [], []
    for image, label in zip(feature_map.numpy(), target.tolist(), strict=True):
        positions = [image[:, y, x] for y in range(image.shape[1]) for x in range(image.shape[2])]
        lengths = [math.sqrt(math.fsum(p * p)) for p in positions]
        spread = max(lengths) - min(lengths)
        scaled = [(n - min(lengths)) / spread if spread else 0.0 for n in lengths]
        own = [cosine(p, weight[label].numpy()) for p in positions]
        best = [max(cosine(p, w) for w in weight.numpy()) for p in positions]
        parting = best if over == "max" else own
        sims.append(
            mean([s for s, n in zip(own, scaled, strict=True) if n < low])
            - mean([s for s, n in zip(own, scaled, strict=True) if n > high])
        )
        norms.append(
            mean([n for s, n in zip(parting, scaled, strict=True) if s < 0])
            - mean([n for s, n in zip(parting, scaled, strict=True) if s > 0])
        )
    return mean(sims), mean(norms)


def constant_norm(feature_map):
    return torch.nn.functional.normalize(feature_map, dim=1).sign()


def with_zeros(feature_map):
    feature_map = feature_map.clone()
    feature_map[:, :, 1] = 0
    return feature_map


CASES = {
    "as drawn": lambda f: f,
    "norm the same everywhere": constant_norm,
    "rows of zero vectors": with_zeros,
    "nothing but zeros": torch.zeros_like,
    "far from zero": lambda f: f + 3,
}


@pytest.mark.parametrize("dataset", SETTINGS)
def test_losses_are_the_papers(dataset):
    feature_map, weight, target = (
        torch.from_numpy(REFERENCE[k]) for k in ("feature", "weight", "target")
    )
    sim, norm = alignment_losses(feature_map, weight, target, *SETTINGS[dataset])
    assert float(sim) == pytest.approx(float(REFERENCE[f"{dataset}_loss_sim"]), rel=1e-5)
    assert float(norm) == pytest.approx(float(REFERENCE[f"{dataset}_loss_norm"]), rel=1e-5)


@pytest.mark.parametrize("over", ["target", "max"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("thresholds", [(0.4, 0.2), (0.6, 0.1), (1.0, 0.0), (0.0, 1.0)])
def test_losses_are_those_of_loops(case, over, thresholds):
    feature_map, weight, target = random_inputs(seed=1)
    feature_map = CASES[case](feature_map)
    losses = alignment_losses(feature_map, weight, target, *thresholds, over)
    expected = in_loops(feature_map, weight, target, *thresholds, over)
    assert [float(loss) for loss in losses] == pytest.approx(expected, abs=1e-12)


def test_a_region_without_a_position_counts_as_zero():
    feature_map, weight, target = random_inputs(seed=2)
    # Along the class weight, so that no cosine is negative; no F̂ is below 0 or above 1.
    feature_map = weight[target][:, :, None, None] * (1 + feature_map.square().sum(1, keepdim=True))
    sim, norm = alignment_losses(feature_map, weight, target, 1.0, 0.0, "target")
    assert float(sim) == 0
    assert float(norm) == pytest.approx(-float(min_max(feature_map.norm(dim=1)).mean()))


@pytest.mark.parametrize("over", ["target", "max"])
@pytest.mark.parametrize("which", ["sim", "norm"])
def test_gradients_are_finite_differences(which, over):
    feature_map, weight, target = random_inputs(seed=3, batch=2, side=3)
    feature_map.requires_grad_()
    weight.requires_grad_()

    def loss(maps: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return getattr(alignment_losses(maps, weights, target, 0.4, 0.2, over), which)

    # Steps of 1e-6 move no position over a threshold, which these numbers are further away from.
    with torch.no_grad():
        scaled = min_max(feature_map.norm(dim=1))
        assert min((scaled - t).abs().min() for t in (0.2, 0.4)) > 1e-4
    assert torch.autograd.gradcheck(loss, (feature_map, weight), eps=1e-6, atol=1e-6)
    if which == "norm":  # a comparison has no gradient, so that none reaches the classifier
        norm = loss(feature_map, weight)
        assert torch.autograd.grad(norm, weight, allow_unused=True)[0] is None


@pytest.mark.parametrize("case", CASES)
def test_gradients_stay_bounded_where_there_is_no_direction(case):
    feature_map, weight, target = random_inputs(seed=4)
    feature_map = CASES[case](feature_map).requires_grad_()
    sim, norm = alignment_losses(feature_map, weight, target)
    (gradient,) = torch.autograd.grad(sim + norm, feature_map)
    assert gradient.abs().max() < 10


def test_a_map_that_is_constant_scales_to_zero_with_a_bounded_gradient():
    maps = torch.full((2, 3, 3), 0.7, requires_grad=True)
    scaled = min_max(maps)
    scaled[:, 0].sum().backward()
    assert (scaled == 0).all()
    assert maps.grad.abs().max() <= 2


@pytest.mark.parametrize("over", ["target", "max"])
def test_two_halves_average_to_the_whole(over):
    """So that processes, which average their gradients, learn as one with all images."""
    feature_map, weight, target = random_inputs(seed=5, batch=6)
    feature_map.requires_grad_()
    whole = alignment_losses(feature_map, weight, target, 0.4, 0.2, over)
    halves = [
        alignment_losses(feature_map[part], weight, target[part], 0.4, 0.2, over)
        for part in (slice(3), slice(3, None))
    ]
    for loss, parts in zip(whole, zip(*halves, strict=True), strict=True):
        assert loss.item() == pytest.approx(sum(parts).item() / 2, abs=1e-12)
        (gradient,) = torch.autograd.grad(loss, feature_map, retain_graph=True)
        (averaged,) = torch.autograd.grad(sum(parts) / 2, feature_map, retain_graph=True)
        torch.testing.assert_close(gradient, averaged)


@pytest.mark.parametrize("over", ["target", "max"])
def test_autocast_changes_nothing(over):
    feature_map, weight, target = (
        t.float() if t.is_floating_point() else t for t in random_inputs(6)
    )
    expected = alignment_losses(feature_map, weight, target, norm_over=over)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert alignment_losses(feature_map, weight, target, norm_over=over) == expected


def test_drop_loss_is_the_mean_distance():
    first, _, _ = random_inputs(seed=7)
    second, _, _ = random_inputs(seed=8)
    distances = [abs(a - b) for a, b in zip(first.flatten(), second.flatten(), strict=True)]
    assert float(drop_loss(first, second)) == pytest.approx(mean(list(map(float, distances))))


@pytest.mark.parametrize(
    ("shapes", "over", "said"),
    [
        (((2, 5, 4), (3, 5), (2,)), "max", r"takes a feature_map \(B,C,h,w\)"),
        (((2, 5, 4, 4), (3, 6), (2,)), "max", r"\(3, 6\)"),
        (((2, 5, 4, 4), (3, 5), (3,)), "max", r"and \(3,\)"),
        (((2, 5, 4, 4), (3, 5), (2,)), "mean", "target or max, not 'mean'"),
    ],
)
def test_what_does_not_fit_is_said(shapes, over, said):
    feature_map, weight, target = (torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match=said):
        alignment_losses(feature_map, weight, target.long(), norm_over=over)
