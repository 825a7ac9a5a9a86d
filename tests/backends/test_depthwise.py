"""Large depthwise convolutions against PyTorch's plain ones in float64, gradients included."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from wsolviz.backends import depthwise
from wsolviz.backends.depthwise import conv2d, depthwise_conv2d, weight_gradient
from wsolviz.backends.packed_layers import operators_work

# (B,C,H,W), (kh,kw): square and thin, even and odd maps, wide and narrow ones, maps smaller than
# the kernel in one direction or both, one cell, and a kernel small enough to be left alone.
SMALL_CASES = [
    ((2, 3, 9, 8), (5, 5)),
    ((1, 2, 8, 8), (15, 15)),
    ((3, 2, 6, 10), (5, 17)),
    ((2, 2, 10, 6), (17, 5)),
    ((2, 3, 4, 5), (31, 31)),
    ((1, 2, 1, 1), (7, 7)),
    ((1, 2, 5, 1), (1, 21)),
    ((2, 3, 6, 6), (3, 3)),
]
LARGE_CASES = [
    ((1, 4, 96, 96), (31, 31)),
    ((2, 24, 56, 56), (31, 31)),
    ((4, 16, 28, 28), (29, 29)),
    ((3, 40, 14, 14), (27, 27)),
    ((2, 17, 7, 7), (13, 13)),
    ((2, 20, 56, 56), (51, 5)),
    ((2, 20, 56, 56), (5, 51)),
    ((1, 8, 96, 96), (51, 5)),
    ((1, 2, 130, 150), (5, 5)),
    ((2, 12, 13, 30), (51, 51)),
]
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second column": lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


def drawn(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def one_product_at_a_time(x, weight, bias):
    """The definition, by loops over the kernel's cells."""
    (_, _, height, width), (_, _, rows, columns) = x.shape, weight.shape
    padded = functional.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2))
    total = torch.zeros_like(x) + bias[:, None, None]
    for i in range(rows):
        for j in range(columns):
            total += weight[:, :, i, j, None] * padded[:, :, i : i + height, j : j + width]
    return total


def plain(x, weight, bias=None):
    padding = weight.shape[2] // 2, weight.shape[3] // 2
    return functional.conv2d(x, weight, bias, padding=padding, groups=len(weight))


def gradients(function, *inputs, seed=3):
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    output = function(*inputs)
    incoming = drawn(*output.shape, seed=seed).to(output)
    return [output.detach(), *torch.autograd.grad(output, inputs, incoming)]


def deviation(given, expected):
    """Largest difference as a share of the expected scale."""
    return ((given.double() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("shape", "kernel"), SMALL_CASES)
def test_output_is_the_definition(shape, kernel):
    x, weight, bias = drawn(*shape), drawn(shape[1], 1, *kernel), drawn(shape[1])
    expected = one_product_at_a_time(x, weight, bias)
    assert torch.allclose(depthwise_conv2d(x, weight, bias), expected)
    without = one_product_at_a_time(x, weight, torch.zeros_like(bias))
    assert torch.allclose(depthwise_conv2d(x, weight), without)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("shape", "kernel"), SMALL_CASES)
def test_gradients_are_those_of_small_steps(shape, kernel, with_bias, layout):
    x, weight = LAYOUTS[layout](drawn(*shape)).requires_grad_(), drawn(shape[1], 1, *kernel)
    inputs = [x, weight.requires_grad_()]
    if with_bias:
        inputs.append(drawn(shape[1]).requires_grad_())
    assert torch.autograd.gradcheck(depthwise_conv2d, inputs, fast_mode=True)


@pytest.mark.parametrize("correlate", ["_correlate_by_fft", "_correlate_by_convolution"])
@pytest.mark.parametrize("chunk", [1, 2**19])
@pytest.mark.parametrize(("shape", "kernel"), SMALL_CASES)
def test_each_way_to_the_weights_gradient(shape, kernel, chunk, correlate, monkeypatch):
    monkeypatch.setattr(depthwise, "CHUNK", chunk)
    for other in ("_correlate_by_fft", "_correlate_by_convolution"):
        monkeypatch.setattr(depthwise, other, getattr(depthwise, correlate))
    x, incoming = drawn(*shape), drawn(*shape, seed=1)
    weight = torch.zeros(shape[1], 1, *kernel, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(plain(x, weight), weight, incoming)
    assert torch.allclose(weight_gradient(x, incoming, kernel), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "kernel"), LARGE_CASES)
def test_float32_is_within_1e_5_of_float64(shape, kernel, layout):
    inputs = drawn(*shape) + 0.5, drawn(shape[1], 1, *kernel), drawn(shape[1])
    expected = gradients(plain, *inputs)
    x, weight, bias = (t.float() for t in inputs)
    given = gradients(depthwise_conv2d, LAYOUTS[layout](x), weight, bias)
    for a, b in zip(given, expected, strict=True):
        assert a.shape == b.shape
        assert deviation(a, b) < 1e-5


def test_only_what_is_asked_for_is_computed_and_kept(monkeypatch):
    x, weight = drawn(2, 3, 20, 20), drawn(3, 1, 17, 17)
    expected = gradients(plain, x, weight)

    def saved_shapes(**wanted):
        shapes = []
        pack = lambda t: shapes.append(tuple(t.shape)) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            given = {"x": x.clone(), "weight": weight.clone()}
            for name in wanted:
                given[name].requires_grad_()
            output = depthwise_conv2d(**given)
        found = torch.autograd.grad(
            output, [given[name] for name in wanted], drawn(*output.shape, seed=3)
        )
        return shapes, found

    with monkeypatch.context() as patch:
        patch.setattr(depthwise, "weight_gradient", None)
        shapes, (by_x,) = saved_shapes(x=True)
    assert shapes == [weight.shape]
    assert torch.allclose(by_x, expected[1])
    shapes, (by_weight,) = saved_shapes(weight=True)
    assert shapes == [x.shape]
    assert torch.allclose(by_weight, expected[2])


def test_second_derivatives_are_refused():
    x, weight = drawn(1, 2, 9, 9).requires_grad_(), drawn(2, 1, 5, 5)
    (by_x,) = torch.autograd.grad(depthwise_conv2d(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        by_x.sum().backward()


@pytest.mark.parametrize(("shape", "kernel"), LARGE_CASES[1:4])
def test_bfloat16_and_autocast_round_no_more_than_the_plain_ones(shape, kernel):
    inputs = [drawn(*shape), drawn(shape[1], 1, *kernel) / 9, drawn(shape[1])]
    exact = gradients(plain, *inputs)

    def under_autocast(function):
        def run(*tensors):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return function(*tensors)

        return run

    for dtype, wrapped in ((torch.float32, under_autocast), (torch.bfloat16, lambda f: f)):
        tensors = [t.to(dtype) for t in inputs]
        given = gradients(wrapped(depthwise_conv2d), *tensors)
        rounded = gradients(wrapped(plain), *tensors)
        assert given[0].dtype is torch.bfloat16
        for a, b, c in zip(given, rounded, exact, strict=True):
            assert a.dtype is b.dtype
            assert deviation(a, c) <= 2 * deviation(b, c)


def test_conv2d_is_torchs_in_every_other_case():
    x, weight, bias = drawn(2, 4, 12, 12), drawn(4, 1, 5, 5), drawn(4)
    cases = [
        (x, weight, bias, (1, 1), (2, 2), (1, 1), 4),
        (x, weight, None, (2, 2), (2, 2), (1, 1), 4),
        (x, weight, bias, (1, 1), (0, 2), (1, 1), 4),
        (x, weight, bias, (1, 1), (4, 4), (2, 2), 4),
        (x, weight, bias, (1, 1), "same", (1, 1), 4),
        (x, drawn(4, 4, 5, 5), bias, (1, 1), (2, 2), (1, 1), 1),
        (x, drawn(8, 1, 5, 5), drawn(8), (1, 1), (2, 2), (1, 1), 4),
        (x, drawn(4, 1, 4, 4), bias, (1, 1), (2, 2), (1, 1), 4),
        (x[0], weight, bias, (1, 1), (2, 2), (1, 1), 4),
        (x[:0], weight, bias, (1, 1), (2, 2), (1, 1), 4),
        (x[:, :1], drawn(1, 1, 5, 5), bias[:1], (1, 1), (2, 2), (1, 1), 1),
    ]
    for case in cases:
        assert torch.allclose(conv2d(*case), functional.conv2d(*case))


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [
        ((1, 3, 9, 9), (3, 1, 4, 5)),
        ((1, 3, 9, 9), (2, 1, 5, 5)),
        ((1, 3, 9, 9), (3, 3, 5, 5)),
        ((3, 9, 9), (3, 1, 5, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_named(shape, kernels):
    with pytest.raises(ValueError, match="odd sides"):
        depthwise_conv2d(torch.zeros(shape), torch.zeros(kernels))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("shape", "kernel"), SMALL_CASES)
def test_a_gpu_computes_it_its_own_way(shape, kernel):
    inputs = drawn(*shape), drawn(shape[1], 1, *kernel), drawn(shape[1])
    expected = gradients(plain, *inputs)
    given = gradients(depthwise_conv2d, *(t.cuda() for t in inputs), seed=3)
    for a, b in zip(given, expected, strict=True):
        assert torch.allclose(a.cpu(), b)
    output = depthwise_conv2d(*(t.cuda().requires_grad_() for t in inputs))
    assert output.grad_fn.name() == "ConvolutionBackward0"


ENDLESS = """
import torch
from torch import nn

from wsolviz.backends.fast import accelerate

torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 15, padding=7, groups=16), nn.Conv2d(16, 8, 1)
).requires_grad_(False)
images = torch.randn(1, 3, 40, 40)
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    given = accelerate(net, images)(images.contiguous(memory_format=torch.channels_last))
expected = net(images)
assert (given.float() - expected).abs().max() <= 0.03 * expected.abs().max()
print("at an end")
"""


@pytest.mark.skipif(not operators_work(torch.bfloat16), reason="no bfloat16 on this processor")
def test_few_channels_with_wide_kernels_come_to_an_end_in_half_precision():
    """In a process that can be killed: in oneDNN's own code it would be forever."""
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "at an end"
