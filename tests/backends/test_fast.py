"""The fused copy against the network it was made from, which is the slow and obvious way."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock
from torch import nn

from wsolviz.backends import packing
from wsolviz.backends.dataflow import trace
from wsolviz.backends.fast import (
    PLANS,
    accelerate,
    fold,
    fold_and_pack,
    logits_only,
    sharing_copy,
)
from wsolviz.backends.folding import BATCH_NORMS, CONVOLUTIONS, fold_batch_norms
from wsolviz.backends.packed_layers import PackedConv2d, PackedLinear
from wsolviz.backends.packing import packed_bytes
from wsolviz.backends.residual import SummedBlock

NETWORKS = {
    "resnet18": {},  # Conv2d, BatchNorm2d and ReLU apart
    "tf_efficientnet_lite0": {},  # Conv2dSame, BatchNormAct2d
    "mobilenetv3_small_050": {},  # a nonlinear head
    "regnety_002": {},  # grouped convolutions, squeeze and excitation
    "repvgg_a0": {},  # a BatchNorm of the block's input beside those behind convolutions
    "densenet121": {"growth_rate": 8, "block_config": (2, 3, 2, 2)},  # BatchNorm comes first
    "resnetv2_18": {},  # weight-standardized convolutions, GroupNorm
    "convnext_atto": {},  # LayerNorm, GELU between linear layers or 1×1 convolutions
    "convnextv2_atto": {},
    "vit_tiny_patch16_224": {"img_size": 64},
    "mixer_s32_224": {"img_size": 64},
    "levit_128s": {"img_size": 224},
}
FIXED_SIZE = {"vit_tiny_patch16_224": 64, "mixer_s32_224": 64, "levit_128s": 224}


def randomized(module, seed=0):
    """Statistics, scales and shifts as no initialization has them: all different, none zero."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        for name in ("weight", "bias", "running_mean", "running_var", "gamma"):
            tensor = getattr(layer, name, None)
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator)
                centred = name in ("bias", "running_mean")
                tensor.data.copy_(noise - 0.5 if centred else noise + 0.5)
    return module.eval()


def photos(size=64, batch=2, seed=1):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def deviation(fast, module, images):
    """Largest difference of the logits, as a share of their standard deviation."""
    expected = module(images)
    assert expected.isfinite().all()
    return ((fast(images) - expected).abs().max() / expected.std()).item()


def state(module):
    """All that the contract says is left alone, with the values by copy."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {
        name: (id(t), t.data_ptr(), t.stride(), t._version, t.requires_grad) for name, t in tensors
    }, {name: t.detach().clone() for name, t in tensors}


def layers(module, kind):
    return [layer for layer in module.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("name", NETWORKS)
def test_same_logits_and_an_untouched_original(name):
    module = randomized(timm.create_model(name, num_classes=10, **NETWORKS[name]))
    identities, values = state(module)
    layout = [(n, type(layer)) for n, layer in module.named_modules()]
    size = FIXED_SIZE.get(name, 64)

    fast = accelerate(module, photos(size, batch=1))

    assert type(fast) is type(module)
    assert not any(layer.training for layer in fast.modules())
    assert deviation(fast, module, photos(size, batch=1)) < 1e-4
    assert deviation(fast, module, photos(FIXED_SIZE.get(name, 96), batch=3, seed=2)) < 1e-4
    channels_last = photos(size).contiguous(memory_format=torch.channels_last)
    assert deviation(fast, module, channels_last) < 1e-4
    with torch.no_grad():
        in_two_parts = fast.forward_head(fast.forward_features(photos(size)))
        assert torch.allclose(in_two_parts, fast(photos(size)), atol=1e-6)

    assert state(module)[0] == identities
    assert all(torch.equal(t, values[n]) for n, t in module.state_dict(keep_vars=True).items())
    assert [(n, type(layer)) for n, layer in module.named_modules()] == layout


@pytest.mark.parametrize(
    "name", ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "regnety_002"]
)
def test_every_batch_norm_behind_a_convolution_is_folded(name):
    module = randomized(timm.create_model(name, num_classes=10))
    assert layers(module, nn.BatchNorm2d)
    assert not layers(accelerate(module, photos()), nn.BatchNorm2d)


def test_folded_weights_are_the_formula():
    module = randomized(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    conv, norm = module
    images = photos()
    folded = sharing_copy(module)
    fold_batch_norms(folded, trace(module, images, logits_only, (*CONVOLUTIONS, *BATCH_NORMS)))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    assert torch.allclose(folded[0].weight, conv.weight * scale[:, None, None, None], atol=1e-6)
    assert torch.allclose(folded[0].bias, norm.bias - norm.running_mean * scale, atol=1e-6)
    assert type(folded[1]) is nn.Identity


@pytest.mark.parametrize(("side", "padding", "folds"), [(1, 0, True), (3, 0, True), (3, 1, False)])
@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_before_a_convolution_is_folded_unless_that_pads(side, padding, folds, affine):
    norm, conv = nn.BatchNorm2d(3, affine=affine), nn.Conv2d(3, 8, side, padding=padding)
    module = randomized(nn.Sequential(norm, conv, nn.ReLU(), nn.Flatten()))
    fast = accelerate(module, photos(size=8))
    assert bool(layers(fast, nn.BatchNorm2d)) is not folds
    assert deviation(fast, module, photos(size=8, seed=4)) < 1e-5


class Branching(nn.Module):
    """Two convolutions, a BatchNorm behind each; `wrong` says how else the first output is used."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        first = self.conv1(x)
        if self.wrong == "written in place":
            first = first.mul_(2)
        y = self.bn1(first)
        if self.wrong == "added":
            y = y + first
        elif self.wrong == "stored":
            y[:, :, 0] = first[:, :, 0]
        elif self.wrong == "seen through a view":
            y = y + first.flatten(2).mean(dim=2)[..., None, None]
        elif self.wrong == "by its size alone":
            y = y * first.shape[1] * first.dim()
        elif self.wrong == "norm called twice":
            y = self.bn1(y.relu())
        return self.head(self.bn2(self.conv2(y.relu())).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("wrong", "left"),
    [
        (None, 0),
        ("by its size alone", 0),
        ("added", 1),
        ("stored", 1),
        ("seen through a view", 1),
        ("written in place", 1),
        ("norm called twice", 1),
    ],
)
def test_a_convolution_whose_output_goes_elsewhere_too_keeps_its_norm(wrong, left):
    module = randomized(Branching(wrong))
    fast = accelerate(module, photos())
    assert len(layers(fast, nn.BatchNorm2d)) == left
    assert deviation(fast, module, photos(seed=5)) < 1e-4


class Scaled(nn.Module):
    """Multiplies by the convolution's weight norm, behind the back of any trace of activations."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).mean(dim=(2, 3))) * self.conv.weight.norm()


def test_what_does_not_verify_is_left_out():
    module = randomized(Scaled())
    fast = accelerate(module, photos())
    assert len(layers(fast, nn.BatchNorm2d)) == 1
    assert deviation(fast, module, photos(seed=5)) < 1e-4


def test_all_outputs_of_a_given_forward_are_held_to():
    """A map that ends at the convolution, with its BatchNorm counted to the head."""
    module = randomized(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 4, 5))
    )

    def forward(network, images):
        activation = network[0](images)
        return activation, network[1:](activation)

    images = photos(size=4)
    assert not layers(accelerate(module, images), nn.BatchNorm2d)
    fast = accelerate(module, images, forward)
    assert layers(fast, nn.BatchNorm2d)
    with torch.no_grad():
        for given, expected in zip(forward(fast, images), forward(module, images), strict=True):
            assert torch.allclose(given, expected, atol=1e-5)


def test_unchanged_tensors_are_shared_and_packed_ones_counted():
    module = randomized(timm.create_model("convnext_atto", num_classes=10))
    fast = accelerate(module, photos())
    kept = {name: t.data_ptr() for name, t in fast.named_parameters()}
    own = dict(module.named_parameters())
    assert kept.keys() < own.keys()
    assert all(own[name].data_ptr() == pointer for name, pointer in kept.items())
    matrices = sum(p.numel() for p in own.values() if p.ndim >= 2)
    assert packed_bytes(fast) == 4 * matrices
    assert packed_bytes(module) == 0


def test_relu_behind_a_norm_or_a_linear_layer_is_fused():
    module = nn.Sequential(
        *(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten()),
        *(nn.Linear(8 * 16, 6), nn.ReLU(), nn.Linear(6, 5)),
    )
    fast = accelerate(randomized(module), photos(size=4))
    assert not layers(fast, nn.ReLU)
    assert deviation(fast, module, photos(size=4, seed=4)) < 1e-4


def test_gelu_behind_a_linear_layer_or_a_convolution_is_fused():
    class Gelus(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.gelu1 = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.GELU()
            self.linear, self.gelu2 = nn.Linear(8, 8), nn.GELU("tanh")

        def forward(self, x):
            x = self.gelu1(self.bn(self.conv(x)))
            return self.gelu2(self.linear(x.mean(dim=(2, 3))))

    module = randomized(Gelus())
    fast = accelerate(module, photos())
    assert not layers(fast, nn.GELU)
    assert [fast.conv.activation.algorithm, fast.linear.activation.algorithm] == ["none", "tanh"]
    assert deviation(fast, module, 3 * photos(seed=4)) < 1e-4


RESIDUAL = {
    "resnet10t": 4,  # BasicBlock
    "resnet14t": 4,  # Bottleneck, shortcuts that average
    "resnext50_32x4d": 16,  # grouped convolutions
    "seresnet18": 0,  # squeeze and excitation before the sum
    "resnetblur18": 5,  # three of its eight blocks blur
}


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_residual_sums_are_written_over_the_shortcut(name, layout, monkeypatch):
    module = randomized(timm.create_model(name, num_classes=10))
    fast = accelerate(module, photos())
    assert len(layers(fast, SummedBlock)) == RESIDUAL[name]
    images = photos(size=96, seed=4).contiguous(memory_format=layout)
    before = images.clone()
    assert deviation(fast, module, images) < 1e-4
    assert torch.equal(images, before)
    # The same copy otherwise: next to the original, rounding may decide what a ReLU cuts off.
    monkeypatch.setattr("wsolviz.backends.fast.PLANS", PLANS[1:])
    apart = accelerate(module, photos())
    assert not layers(apart, SummedBlock)
    asked = [network(images.requires_grad_())[:, 3].sum() for network in (fast, apart)]
    given, expected = (torch.autograd.grad(logit, images)[0] for logit in asked)
    assert torch.allclose(given, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())


def test_a_block_whose_input_is_needed_again_is_not_written_over():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.block = nn.Conv2d(3, 8, 1), BasicBlock(8, 8)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            x = self.stem(x)
            return self.head((self.block(x) + x).mean(dim=(2, 3)))

    module = randomized(Twice())
    fast = accelerate(module, photos())
    assert not layers(fast, SummedBlock)
    assert len(layers(fast, PackedConv2d)) == 3
    assert deviation(fast, module, photos(seed=4)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_autocast_rounds_the_copy_no_more_than_the_original(name, dtype):
    module = randomized(timm.create_model(name, num_classes=10))
    images = photos(size=64)
    with torch.no_grad():
        exact = module(images)
        for fast in (accelerate(module, images), accelerated_under(dtype, module, images)):
            with torch.autocast("cpu", dtype=dtype):
                rounded, given = module(images).float(), fast(images).float()
            assert not torch.equal(given, fast(images))
            assert (given - exact).abs().max() <= 3 * (rounded - exact).abs().max()


def accelerated_under(dtype, module, images):
    with torch.autocast("cpu", dtype=dtype):
        fast = accelerate(module, images)
    packs = dtype is torch.bfloat16 and packing.operators_work(dtype)
    packed = layers(fast, (PackedLinear, PackedConv2d))
    assert bool(packed) is packs
    assert all(layer.dtype is dtype for layer in packed)
    assert deviation(fast, module, images) < 1e-4
    return fast


def test_gradients_pass_through_the_copy():
    module = randomized(timm.create_model("convnext_atto", num_classes=10))
    fast = accelerate(module, photos())
    gradients = []
    for network in (module, fast):
        images = photos().requires_grad_()
        network(images)[:, 3].sum().backward()
        gradients.append(images.grad)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[0].abs().max()


def test_a_module_in_training_mode_stays_in_it():
    module = randomized(timm.create_model("resnet18", num_classes=10)).train()
    _, values = state(module)
    fast = accelerate(module, photos())
    assert module.training
    assert all(layer.training for layer in module.modules())
    assert not fast.training
    assert all(torch.equal(t, values[n]) for n, t in module.state_dict().items())
    assert deviation(fast, copy.deepcopy(module).eval(), photos()) < 1e-4


def test_packed_layers_take_empty_unbatched_and_bfloat16_input():
    linear, conv = nn.Linear(6, 4), nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2)
    identity = packing.NO_ACTIVATION
    fast = PackedLinear(linear, torch.Size([2, 6]), identity)
    with torch.no_grad():
        for shape in [(6,), (0, 6), (1, 6), (2, 3, 5, 6)]:
            x = torch.randn(shape)
            assert torch.allclose(fast(x), linear(x), atol=1e-6)
        strided = torch.randn(6, 5).T
        assert torch.allclose(fast(strided), linear(strided), atol=1e-6)
        fast = PackedConv2d(conv, torch.Size([1, 3, 16, 16]), identity)
        assert torch.equal(fast.weight, conv.weight)
        for shape in [(3, 9, 9), (0, 3, 9, 9), (5, 3, 11, 7), (1, 3, 32, 32)]:
            x = torch.randn(shape)
            assert torch.allclose(fast(x), conv(x), atol=1e-5)
        assert torch.equal(fast.weight, conv.weight)  # packed three times by now
        x = torch.randn(2, 6).bfloat16()
        fast = PackedLinear(linear, torch.Size([2, 6]), identity)
        fast.weight, fast.bias = copy.deepcopy(linear).bfloat16().parameters()
        assert torch.equal(fast(x), copy.deepcopy(linear).bfloat16()(x))


def test_without_onednn_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(packing, "operators_work", lambda dtype: False)
    module = randomized(timm.create_model("resnet18", num_classes=10))
    fast = accelerate(module, photos())
    assert not layers(fast, (PackedLinear, PackedConv2d, nn.BatchNorm2d))
    convolutions = layers(fast, nn.Conv2d)
    assert convolutions
    layout = torch.channels_last
    assert all(conv.weight.is_contiguous(memory_format=layout) for conv in convolutions)
    assert deviation(fast, module, photos(seed=3)) < 1e-4


@pytest.mark.parametrize("plan", PLANS)
def test_each_fallback_plan_is_right_by_itself(plan, monkeypatch):
    monkeypatch.setattr("wsolviz.backends.fast.PLANS", (plan,))
    module = randomized(timm.create_model("resnet18", num_classes=10))
    fast = accelerate(module, photos())
    assert deviation(fast, module, photos(seed=3)) < 1e-4
    assert bool(layers(fast, nn.BatchNorm2d)) is not bool({fold, fold_and_pack} & set(plan))
    packs = bool({packing.pack, fold_and_pack} & set(plan))
    assert bool(layers(fast, PackedConv2d)) is packs


def test_a_network_that_gives_nan_is_only_copied():
    module = randomized(timm.create_model("resnet18", num_classes=10))
    module.bn1.running_mean[0] = torch.nan
    fast = accelerate(module, photos())
    assert len(layers(fast, nn.BatchNorm2d)) == len(layers(module, nn.BatchNorm2d))


def test_threads_share_the_copy():
    module = randomized(timm.create_model("convnext_atto", num_classes=10))
    fast = accelerate(module, photos())
    batches = [photos(size=32 + 32 * (i % 3), batch=1 + i % 2, seed=i) for i in range(24)]

    @torch.no_grad()
    def logits(images):
        return fast(images)

    alone = [logits(images) for images in batches]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(logits, batches))
    for given, expected in zip(together, alone, strict=True):
        assert torch.allclose(given, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_on_a_gpu_norms_are_folded_and_nothing_is_packed(name):
    module = randomized(timm.create_model(name, num_classes=10)).cuda()
    fast = accelerate(module, photos().cuda())
    assert not layers(fast, (PackedLinear, PackedConv2d, nn.BatchNorm2d))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert deviation(fast, module, photos(seed=2).cuda()) < 1e-4
