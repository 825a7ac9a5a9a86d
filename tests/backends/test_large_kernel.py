"""Merged and accelerated blocks of large kernels against the branches computed one by one."""

import pytest
import torch
from torch import nn

from wsolviz.backends import depthwise
from wsolviz.backends.fast import accelerate, sharing_copy
from wsolviz.backends.folding import BATCH_NORMS
from wsolviz.backends.large_kernel import (
    LargeKernelConv2d,
    Mergeable,
    SummedBranches,
    merge_branches,
)
from wsolviz.backends.packed_layers import PackedConv2d

CHANNELS = 6


def photos(size=24, batch=2, seed=1):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def randomized(module, seed=0):
    """Statistics, scales and shifts all different, none zero; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(drawn + 0.5 if "var" in name else drawn - 0.4)
    return module.eval()


def branch(*kernel, bias=False, conv=LargeKernelConv2d):
    padding = tuple(side // 2 for side in kernel)
    layer = conv(CHANNELS, CHANNELS, kernel, padding=padding, groups=CHANNELS, bias=bias)
    return nn.Sequential(layer, nn.BatchNorm2d(CHANNELS, eps=1e-3))


class Parallel(nn.Module):
    """Branches whose outputs are added, that can merge them."""

    def __init__(self, *kernels, conv=LargeKernelConv2d):
        super().__init__()
        self.branches = nn.ModuleList(branch(*kernel, conv=conv) for kernel in kernels)

    def forward(self, x):
        return sum(part(x) for part in self.branches)

    def merged(self):
        return merge_branches([tuple(part) for part in self.branches])


class WrongParallel(Parallel):
    def merged(self):
        return merge_branches([tuple(self.branches[0])])


class Network(nn.Module):
    """A stem, two blocks with different kernels around a residual, and a classifier."""

    def __init__(self, parallel=Parallel, conv=LargeKernelConv2d):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        self.square = parallel((17, 17), (5, 5), conv=conv)
        self.thin = nn.ModuleList([parallel((19, 5), (5, 19), (5, 5), conv=conv)])
        self.single = branch(15, 15, conv=conv)
        self.head = nn.Linear(CHANNELS, 5)

    def forward_map(self, images):
        x = self.stem(images)
        x = x + self.square(x).relu()
        return self.single(x + self.thin[0](x).relu())

    def forward(self, images):
        return self.head(self.forward_map(images).mean((2, 3)))


def deviation(given, expected):
    return ((given - expected).abs().max() / expected.abs().max()).item()


def count(module, kind):
    return sum(isinstance(layer, kind) for layer in module.modules())


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 17, "padding": 8, "groups": 4},
        {"kernel_size": (5, 19), "padding": (2, 9), "groups": 4, "bias": False},
        {"kernel_size": 17, "padding": 8, "groups": 4, "stride": 2},
        {"kernel_size": 17, "padding": 16, "groups": 4, "dilation": 2},
        {"kernel_size": 5, "padding": 0, "groups": 4},
        {"kernel_size": 5, "padding": 2, "groups": 4, "padding_mode": "reflect"},
        {"kernel_size": 5, "padding": "same", "groups": 4},
        {"kernel_size": 5, "padding": 2, "groups": 2},
        {"kernel_size": 5, "padding": 2},
    ],
)
def test_the_layer_has_the_names_and_numbers_of_conv2d(options):
    plain, large = nn.Conv2d(4, 4, **options), LargeKernelConv2d(4, 4, **options)
    assert [(k, v.shape) for k, v in large.state_dict().items()] == [
        (k, v.shape) for k, v in plain.state_dict().items()
    ]
    large.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 20, 18, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(large(x), plain(x), atol=1e-5)


def test_the_layer_takes_the_fast_way_where_it_fits(monkeypatch):
    calls = []
    monkeypatch.setattr(depthwise, "depthwise_conv2d", lambda *a: calls.append(a) or a[0])
    x = torch.zeros(1, CHANNELS, 9, 9)
    branch(17, 17)[0](x), branch(5, 17)[0](x)
    LargeKernelConv2d(CHANNELS, CHANNELS, 5, 2, padding=2, groups=CHANNELS)(x)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("kernels", "left"),
    [
        ([(7, 7)], [(7, 7)]),
        ([(13, 13), (5, 5)], [(13, 13)]),
        ([(3, 3), (5, 5), (13, 13)], [(13, 13)]),
        ([(5, 5), (5, 5)], [(5, 5)]),
        ([(15, 5), (5, 15), (5, 5)], [(15, 5), (5, 15)]),
        ([(5, 15), (13, 13), (3, 11)], [(13, 13), (5, 15)]),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_merged_branches_give_the_sum(kernels, left, bias):
    parts = [randomized(branch(*k, bias=bias), seed=i) for i, k in enumerate(kernels)]
    merged = merge_branches([tuple(part) for part in parts]).double()
    convolutions = [merged] if len(left) == 1 else list(merged)
    assert type(merged) is (LargeKernelConv2d if len(left) == 1 else SummedBranches)
    assert [layer.kernel_size for layer in convolutions] == left
    assert not any(p.requires_grad for p in merged.parameters())
    x = torch.randn(2, CHANNELS, 11, 12, generator=torch.Generator().manual_seed(0)).double()
    expected = sum(part.double()(x) for part in parts)
    assert deviation(merged(x), expected) < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 5, "padding": 2},
        {"kernel_size": 5, "padding": 1, "groups": 4},
        {"kernel_size": 4, "padding": 2, "groups": 4},
        {"kernel_size": 5, "padding": 2, "groups": 4, "stride": 2},
        {"kernel_size": 5, "padding": 2, "groups": 4, "padding_mode": "circular"},
    ],
)
def test_other_convolutions_are_refused(options):
    with pytest.raises(ValueError, match="depthwise"):
        merge_branches([(nn.Conv2d(4, 4, **options), nn.BatchNorm2d(4))])


def test_nothing_to_merge_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        merge_branches([])


@pytest.mark.parametrize("conv", [nn.Conv2d, LargeKernelConv2d])
def test_the_fast_copy_is_merged_packed_and_the_same(conv):
    module = randomized(Network(conv=conv))
    before = {name: (id(t), t._version) for name, t in module.state_dict(keep_vars=True).items()}

    fast = accelerate(module, photos())

    assert not count(fast, (*BATCH_NORMS, Parallel, nn.Conv2d))
    assert isinstance(fast.square, PackedConv2d)
    assert [type(layer) for layer in fast.thin[0]] == [PackedConv2d, PackedConv2d]
    with torch.no_grad():
        for images in (photos(), photos(size=32, batch=1, seed=2)):
            assert deviation(fast(images), module(images)) < 1e-5
    assert count(module, Parallel) == 2
    assert before == {
        name: (id(t), t._version) for name, t in module.state_dict(keep_vars=True).items()
    }


def test_gradients_pass_through_the_merged_branches():
    module = randomized(Network(conv=nn.Conv2d)).requires_grad_(False)
    gradients = []
    for network in (module, accelerate(module, photos())):
        images = photos().requires_grad_()
        network(images)[:, 3].sum().backward()
        gradients.append(images.grad)
    assert deviation(*gradients) < 1e-4


def test_a_merging_that_does_not_verify_is_left_out():
    module = randomized(Network(WrongParallel))
    fast = accelerate(module, photos())
    assert count(fast, WrongParallel) == 2
    assert not count(fast, BATCH_NORMS)
    with torch.no_grad():
        assert deviation(fast(photos()), module(photos())) < 1e-5


def test_under_bfloat16_the_copy_is_merged_and_rounds_no_more():
    module = randomized(Network(conv=nn.Conv2d))
    with torch.no_grad():
        exact = module(photos())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fast = accelerate(module, photos())
            given, rounded = fast(photos()).float(), module(photos()).float()
    assert isinstance(fast.square, (LargeKernelConv2d, PackedConv2d))
    assert not torch.equal(given, exact)
    assert deviation(given, exact) <= 3 * deviation(rounded, exact)


def test_training_gives_the_gradients_of_plain_convolutions():
    large = randomized(Network()).train()
    plain = Network(conv=nn.Conv2d).train()
    plain.load_state_dict(large.state_dict())
    for network in (large, plain):
        network(photos()).square().sum().backward()
    for (name, a), b in zip(large.named_parameters(), plain.parameters(), strict=True):
        assert deviation(a.grad, b.grad) < 1e-3, name
    assert all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(large.buffers(), plain.buffers(), strict=True)
    )


def test_mergeable_is_what_offers_it():
    assert isinstance(Parallel((5, 5)), Mergeable)
    assert not isinstance(branch(5, 5), Mergeable)
    assert not count(sharing_copy(Network()), SummedBranches)
