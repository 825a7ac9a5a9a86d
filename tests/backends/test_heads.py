"""The head's form, found by probing, against matrices multiplied out by hand."""

import math

import pytest
import torch
from torch import nn

from wsolviz.backends.head_search import find_head
from wsolviz.backends.heads import ChannelNorm, Head, gap_deviation

C, K = 12, 5


def randomized(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator)
            tensor.data.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return module.eval().requires_grad_(False)


def find(module: nn.Module) -> Head | None:
    pooled = 2 + 3 * torch.randn(2, C, generator=torch.Generator().manual_seed(1))
    return find_head(module, module, pooled)


def a_map() -> torch.Tensor:
    return torch.randn(2, C, 4, 3, generator=torch.Generator().manual_seed(2)) + 1


def assert_gap_identity(head: Head, module: nn.Module) -> None:
    """CAM of every class, averaged cell by cell, plus bias is what the module says of the mean."""
    feature_map, weight, bias = head.features(a_map(), "logit")
    expected = module(a_map().mean(dim=(2, 3)))
    for b in range(2):
        for k in range(K):
            cells = [
                sum(float(weight[k, c] * feature_map[b, c, y, x]) for c in range(C))
                for y in range(4)
                for x in range(3)
            ]
            assert math.fsum(cells) / 12 + float(bias[k]) == pytest.approx(
                float(expected[b, k]), abs=2e-5
            )


class RMSNorm(nn.Module):
    """A norm nobody registered anywhere: known by what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))
        self.eps = 1e-3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x / (x.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.head_dist = nn.Linear(C, K), nn.Linear(C, K)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.head(x) + self.head_dist(x)) / 2


class TwoNorms(nn.Module):
    """The mean of two heads with a BatchNorm each."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(C), nn.Linear(C, K)) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.heads[0](x) + self.heads[1](x)) / 2


def test_a_linear_classifier_gives_its_own_tensors():
    module = randomized(nn.Linear(C, K))
    head = find(module)
    assert head.form == "linear"
    assert head.weight.data_ptr() == module.weight.data_ptr()
    assert head.bias.data_ptr() == module.bias.data_ptr()
    assert_gap_identity(head, module)


def test_a_convolution_without_bias_gives_its_own_weight_and_zeros():
    convolution = nn.Conv2d(C, K, 1, bias=False)
    module = randomized(nn.Sequential(nn.Unflatten(1, (C, 1, 1)), convolution, nn.Flatten()))
    head = find(module)
    assert head.weight.data_ptr() == convolution.weight.data_ptr()
    assert torch.equal(head.bias, torch.zeros(K))
    assert_gap_identity(head, module)


@pytest.mark.parametrize(
    ("norm", "centred"),
    [
        (nn.LayerNorm(C, eps=1e-2), True),
        (nn.LayerNorm(C, elementwise_affine=False), True),
        (nn.LayerNorm(C, bias=False), True),
        (RMSNorm(), False),
    ],
)
def test_a_channel_norm_behind_the_pooling_is_kept_apart(norm: nn.Module, centred: bool):
    module = randomized(nn.Sequential(norm, nn.Linear(C, K)))
    head = find(module)
    assert head.norm.centred is centred
    assert head.norm.eps == norm.eps
    assert head.weight.data_ptr() == module[1].weight.data_ptr()
    assert head.form == f"{'LayerNorm' if centred else 'RMSNorm'}, linear"
    assert_gap_identity(head, module)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(C), nn.BatchNorm1d(C, affine=False)])
def test_a_batch_norm_becomes_part_of_the_map(norm: nn.BatchNorm1d):
    linear = nn.Linear(C, K)
    module = randomized(nn.Sequential(norm, linear))
    head = find(module)
    assert head.form == "BatchNorm, linear"
    assert head.weight.data_ptr() == linear.weight.data_ptr()
    f = a_map()
    feature_map, _, bias = head.features(f, "logit")
    every_place = f.permute(0, 2, 3, 1).reshape(-1, C)
    torch.testing.assert_close(feature_map.permute(0, 2, 3, 1).reshape(-1, C), norm(every_place))
    torch.testing.assert_close(bias, linear.bias)
    assert head.features(f, "pre_norm")[0] is f
    assert_gap_identity(head, module)


def test_a_batch_norm_that_only_some_of_the_logits_come_from_is_folded_into_the_weight():
    module = randomized(TwoNorms())
    head = find(module)
    assert head.form == "affine layers"
    assert_gap_identity(head, module)


def test_the_two_heads_of_a_distilled_network_average():
    module = randomized(TwoHeads())
    head = find(module)
    weight = (module.head.weight + module.head_dist.weight) / 2
    torch.testing.assert_close(head.weight, weight, rtol=0, atol=1e-5)
    assert_gap_identity(head, module)


def test_a_layer_norm_before_several_affine_layers():
    module = randomized(nn.Sequential(nn.LayerNorm(C), nn.Linear(C, 9), TwoHeads9()))
    head = find(module)
    weight = (module[2].a.weight + module[2].b.weight) / 2 @ module[1].weight
    torch.testing.assert_close(head.weight, weight, rtol=0, atol=1e-4)
    assert head.form == "LayerNorm, affine layers"
    assert_gap_identity(head, module)


class TwoHeads9(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(9, K), nn.Linear(9, K)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.a(x) + self.b(x)) / 2


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(C, 9), nn.GELU(), nn.Linear(9, K)),
        nn.Sequential(nn.LayerNorm(C), nn.Linear(C, 9), nn.Hardswish(), nn.Linear(9, K)),
        nn.Sequential(nn.Linear(C, 9), nn.LayerNorm(9), nn.Linear(9, K)),
    ],
)
def test_a_nonlinear_head_has_no_form(module: nn.Module):
    assert find(randomized(module)) is None


def test_a_pooling_that_is_no_average_deviates():
    """On 1×1 maps a maximum looks like a mean; on real ones it does not."""
    linear = randomized(nn.Linear(C, K))
    head = find(linear)
    by_mean, by_max = linear(a_map().mean(dim=(2, 3))), linear(a_map().amax(dim=(2, 3)))
    assert gap_deviation(head, a_map(), by_mean) < 1e-6
    assert gap_deviation(head, a_map(), by_max) > 0.1


def test_a_wrong_weight_does_not_hide_behind_a_large_bias():
    weight = torch.randn(K, C, generator=torch.Generator().manual_seed(5))
    bias = torch.full((K,), 1e2)
    logits = a_map().mean(dim=(2, 3)) @ weight.T + bias
    assert gap_deviation(Head(weight, bias), a_map(), logits) < 1e-4
    assert gap_deviation(Head(1.1 * weight, bias), a_map(), logits) > 0.05


def test_a_zero_classifier_is_exact_and_its_cam_zero():
    module = randomized(nn.Linear(C, K))
    module.weight.zero_()
    head = find(module)
    assert gap_deviation(head, a_map(), module(a_map().mean(dim=(2, 3)))) == 0


def test_nan_is_no_small_deviation():
    head = Head(torch.randn(K, C), torch.zeros(K))
    assert gap_deviation(head, a_map(), torch.full((2, K), torch.nan)) == math.inf


def test_fold_is_the_formula_at_every_cell():
    generator = torch.Generator().manual_seed(7)
    gamma, beta = torch.randn(2, C, generator=generator)
    for centred in (True, False):
        folded = ChannelNorm(gamma, beta, 0.3, centred).fold(a_map())
        for b in range(2):
            pooled = a_map()[b].mean(dim=(1, 2))
            centre = pooled.mean() if centred else torch.tensor(0.0)
            sigma = ((pooled - centre).square().mean() + 0.3).sqrt()
            for y in range(4):
                for x in range(3):
                    cell = a_map()[b, :, y, x]
                    mean = cell.mean() if centred else 0.0
                    torch.testing.assert_close(folded[b, :, y, x], gamma * (cell - mean) / sigma)


def test_pre_norm_space_leaves_the_norm_out():
    module = randomized(nn.Sequential(nn.LayerNorm(C), nn.Linear(C, K)))
    feature_map, weight, bias = find(module).features(a_map(), "pre_norm")
    assert torch.equal(feature_map, a_map())
    assert torch.equal(weight, module[1].weight)
    assert torch.equal(bias, module[1].bias)
