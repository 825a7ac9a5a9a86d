"""Gradients by the input of packed layers, against autograd's in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsolviz.backends import strips
from wsolviz.backends.activations import NO_ACTIVATION, as_activation
from wsolviz.backends.packed_layers import PackedConv2d, PackedLinear, operators_work
from wsolviz.backends.packing import packed_bytes

pytestmark = pytest.mark.skipif(
    not operators_work(torch.float32), reason="this build of torch cannot pack weights"
)

ACTIVATIONS = [None, nn.ReLU(), nn.GELU(), nn.GELU(approximate="tanh")]
CONVOLUTIONS = {
    "pointwise": (nn.Conv2d(12, 20, 1), (9, 7)),
    "plain": (nn.Conv2d(12, 16, 3, padding=1), (9, 7)),
    "unpadded": (nn.Conv2d(12, 16, 3), (9, 7)),
    "padded wide": (nn.Conv2d(12, 16, 3, padding=2), (9, 7)),
    "padded wider than turns": (nn.Conv2d(12, 16, 3, padding=3), (9, 7)),
    "strided": (nn.Conv2d(12, 16, 3, stride=2, padding=1), (9, 8)),
    "patches": (nn.Conv2d(12, 16, 4, stride=4), (11, 8)),
    "dilated": (nn.Conv2d(12, 16, 3, padding=2, dilation=2), (9, 7)),
    "grouped": (nn.Conv2d(12, 24, 3, padding=1, groups=3), (9, 7)),
    "depthwise": (nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False), (9, 7)),
    "strided depthwise": (nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16), (9, 8)),
    "leaving rows out": (nn.Conv2d(16, 16, 3, (3, 2), (0, 1), groups=16), (11, 8)),
    "large": (nn.Conv2d(16, 16, 31, padding=15, groups=16), (20, 18)),
    "thin": (nn.Conv2d(16, 16, (51, 5), padding=(25, 2), groups=16), (20, 18)),
}


def activation_of(layer):
    return NO_ACTIVATION if layer is None else as_activation(layer)


def exact_gradient(layer, activation, x, weights):
    """Of Σ weights · output by the input, in float64, by autograd alone."""
    reference = nn.Sequential(layer, activation or nn.Identity()).double()
    x = x.double().requires_grad_()
    (reference(x) * weights.double()).sum().backward()
    layer.float()
    return x.grad


def assert_near(given, expected, tolerance=1e-5):
    assert given.shape == expected.shape
    assert (given - expected).abs().max() <= tolerance * expected.abs().max()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_packed_convolution_has_the_gradient_of_the_plain_one(kind, activation):
    layer, size = CONVOLUTIONS[kind]
    layer.requires_grad_(False)
    x = noise(2, layer.in_channels, *size).contiguous(memory_format=torch.channels_last)
    packed = PackedConv2d(layer, x.shape, activation_of(activation))
    x.requires_grad_()
    output = packed(x)
    weights = noise(*output.shape, seed=1)
    with torch.no_grad():
        assert_near(output, packed(x))
    (output * weights).sum().backward()
    assert_near(x.grad, exact_gradient(layer, activation, x.detach(), weights))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_layer_has_the_gradient_of_the_plain_one(bias, activation):
    layer = nn.Linear(12, 20, bias=bias).requires_grad_(False)
    x = noise(2, 5, 12)
    packed = PackedLinear(layer, x.shape, activation_of(activation))
    x.requires_grad_()
    output = packed(x)
    weights = noise(*output.shape, seed=1)
    (output * weights).sum().backward()
    assert_near(x.grad, exact_gradient(layer, activation, x.detach(), weights))


def test_another_size_has_its_own_gradient():
    layer, _ = CONVOLUTIONS["plain"]
    layer.requires_grad_(False)
    packed = PackedConv2d(layer, torch.Size((1, 12, 8, 8)), activation_of(None))
    for size in ((8, 8), (5, 11), (8, 8)):
        x = noise(1, 12, *size).requires_grad_()
        output = packed(x)
        weights = noise(*output.shape, seed=1)
        (output * weights).sum().backward()
        assert_near(x.grad, exact_gradient(layer, None, x.detach(), weights))


@pytest.mark.skipif(not operators_work(torch.bfloat16), reason="no bfloat16 on this processor")
@pytest.mark.parametrize(
    "kind", ["pointwise", "strided", "strided depthwise", "leaving rows out", "large"]
)
def test_in_half_precision_the_gradient_is_near(kind):
    layer, size = CONVOLUTIONS[kind]
    layer.requires_grad_(False)
    x = noise(1, layer.in_channels, *size)
    packed = PackedConv2d(layer, x.shape, activation_of(nn.GELU()), torch.bfloat16)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = packed(x)
    assert output.dtype is torch.bfloat16
    weights = noise(*output.shape, seed=1)
    (output.float() * weights).sum().backward()
    assert x.grad.dtype is torch.float32
    assert_near(x.grad, exact_gradient(layer, nn.GELU(), x.detach(), weights), 0.03)


@pytest.mark.parametrize(("activation", "share"), [(None, 0), (nn.ReLU(), 1), (nn.GELU(), 1)])
def test_only_what_the_activation_needs_is_kept(activation, share):
    """The share of the output's bytes that stays in memory until the gradient is asked for."""
    layer = nn.Conv2d(12, 16, 3, padding=1).requires_grad_(False)
    x = noise(1, 12, 8, 8).requires_grad_()
    packed = PackedConv2d(layer, x.shape, activation_of(activation))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        output = packed(x)
    expected = share * output.numel() * output.element_size()
    assert sum(t.numel() * t.element_size() for t in kept) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_the_gradient_packs_is_counted_and_is_no_part_of_the_layer(dtype):
    if not operators_work(dtype):
        pytest.skip("this processor cannot pack weights of this type")
    layer, size = CONVOLUTIONS["plain"]
    packed = PackedConv2d(layer.requires_grad_(False), (1, 12, *size), NO_ACTIVATION, dtype)
    parts = [name for name, _ in packed.named_modules()]
    before = packed_bytes(packed)
    x = noise(1, 12, *size).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, dtype is torch.bfloat16):
        packed(x).sum().backward()
    assert [name for name, _ in packed.named_modules()] == parts, "another thread may be reading"
    assert packed_bytes(packed) == 2 * before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_wide_convolution_of_a_large_map_runs_in_strips_of_channels(monkeypatch, dtype, bias):
    if not operators_work(dtype):
        pytest.skip("this processor cannot pack weights of this type")
    monkeypatch.setattr(strips, "SMALL_MAP", 128 * 9 * 7 * dtype.itemsize - 1)
    layer = nn.Conv2d(128, 128, 13, padding=6, groups=128, bias=bias).requires_grad_(False)
    weight = layer.weight.clone()
    packed = PackedConv2d(layer, torch.Size((2, 128, 9, 7)), activation_of(nn.ReLU()), dtype)
    assert len(packed.packed_weights) == {torch.float32: 4, torch.bfloat16: 2}[dtype]
    assert torch.equal(packed.weight, weight)
    near = 1e-5 if dtype is torch.float32 else 0.03
    for size in ((9, 7), (5, 6), (10, 7)):  # in strips, in one piece, in strips
        x = noise(2, 128, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, dtype is torch.bfloat16):
            output = packed(x)
        assert output.is_contiguous(memory_format=torch.channels_last)
        assert_near(output.float(), nn.functional.relu(layer(x)), near)
        weights = noise(*output.shape, seed=1)
        (output.float() * weights).sum().backward()
        if dtype is torch.float32:  # in bfloat16 the ReLU's kinks lie elsewhere
            assert_near(x.grad, exact_gradient(layer, nn.ReLU(), x.detach(), weights))


PLACES = {
    "centre": [(0, 9, 8)],
    "corner": [(1, 0, 0)],
    "other corner": [(0, 19, 17)],
    "border": [(0, 0, 5), (1, 1, 5)],
    "two corners": [(0, 0, 17), (1, 19, 0)],
    "nowhere": [],
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kernel", [1, 3, 5, 31, (3, 7)])
@pytest.mark.parametrize("place", PLACES)
def test_a_gradient_that_is_mostly_zero_is_pulled_back_like_any_other(place, kernel, activation):
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(side // 2 for side in sides)
    groups = 1 if kernel == 1 else 16
    layer = nn.Conv2d(16, 16, sides, padding=padding, groups=groups).requires_grad_(False)
    x = noise(2, 16, 20, 18).contiguous(memory_format=torch.channels_last)
    packed = PackedConv2d(layer, x.shape, activation_of(activation))
    weights = torch.zeros(2, 16, 20, 18)
    for image, row, column in PLACES[place]:
        weights[image, :, row, column] = noise(16, seed=1)
    x.requires_grad_()
    (packed(x) * weights).sum().backward()
    assert_near(x.grad, exact_gradient(layer, activation, x.detach(), weights))


def test_only_the_box_that_a_gradient_reaches_is_computed(monkeypatch):
    layer = nn.Conv2d(16, 16, 5, padding=2, groups=16).requires_grad_(False)
    x = noise(1, 16, 20, 18).requires_grad_()
    packed = PackedConv2d(layer, x.shape, activation_of(nn.GELU()))
    shapes = []
    pull_back = packed.pull_back
    monkeypatch.setattr(
        packed, "pull_back", lambda grad, shape: shapes.append(shape) or pull_back(grad, shape)
    )
    output = packed(x)
    output[:, :, 10, 1].sum().backward()
    assert shapes == [(1, 16, 5, 4)]


def test_nan_is_not_taken_for_zero():
    layer = nn.Conv2d(16, 16, 3, padding=1, groups=16).requires_grad_(False)
    x = noise(1, 16, 20, 18).requires_grad_()
    packed = PackedConv2d(layer, x.shape, activation_of(None))
    weights = torch.zeros(1, 16, 20, 18)
    weights[0, 3, 10, 10] = torch.nan
    (packed(x) * weights).sum().backward()
    assert x.grad[0, 3, 9:12, 9:12].isnan().all()
    assert (x.grad[0, :3] == 0).all()
