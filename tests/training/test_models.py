"""Backbones in training against the paper's own code, two separate passes, and autograd."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import wsolviz
from tests.parity.fill import fill, image
from tests.parity.test_networks import REFERENCE, TARGETS, assert_close, official_state
from training.losses import drop_loss
from training.models import AttentiveDrop, TrainableNetwork
from wsolviz.backends.architecture import NetworkBackbone
from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.replknet import RepLKNet
from wsolviz.backends.slak import SLaK
from wsolviz.preprocess import Preprocessing

DROPS = [f"bridging_{n}_drop_{side}" for n in ("resnet50", "vgg16") for side in (14, 28)]
PLACES = {"resnet50": None, "vgg16": "features.22"}
SIZE = 64


def of(module: nn.Module) -> Backbone:
    module.load_state_dict(fill(module.state_dict()))
    return NetworkBackbone(
        "small", module, Preprocessing(size=(SIZE, SIZE)), weights=WeightsInfo("random")
    )


def small_replknet() -> Backbone:
    """BatchNorm, average, linear."""
    return of(RepLKNet((8, 12, 16, 24), (7, 7, 5, 5), num_classes=5))


def small_slak() -> Backbone:
    """Average, LayerNorm, linear."""
    return of(SLaK((8, 12, 16, 24), (1, 1, 2, 2), num_classes=5))


def small_resnet() -> Backbone:
    """BatchNorm in every block; average, linear."""
    backbone = wsolviz.load_backbone("timm/resnet18", None, 5, device="cpu")
    backbone.module.load_state_dict(fill(backbone.module.state_dict()))
    return backbone


SMALL = {"BatchNorm": small_replknet, "LayerNorm": small_slak, "none": small_resnet}


def trainable(backbone: Backbone, *, train: bool = True) -> TrainableNetwork:
    network = TrainableNetwork(backbone)
    network.module.requires_grad_(True)
    return network.train(train)


def photos(batch: int = 3) -> torch.Tensor:
    return image(SIZE, seed=1, batch=batch)


# The paper's own code -------------------------------------------------------------------------


@pytest.fixture(scope="module", params=DROPS)
def dropped(request, tmp_path_factory):
    """A case's reference, and the two passes with everything erased that may be."""
    network, side = request.param.split("_")[1::2]
    path = tmp_path_factory.mktemp("drop") / f"{request.param}.pth"
    torch.save({"state_dict": official_state(request.param)}, path)
    stride = {"14": 16, "28": 8}[side]
    backbone = wsolviz.load_backbone(f"{network}_cam", path, device="cpu", output_stride=stride)
    path.unlink()
    trained = TrainableNetwork(backbone)
    reference = np.load(Path(REFERENCE) / f"{request.param}.npz")
    images = image(int(reference["size"]), int(reference["seed"]), batch=2)
    place = trained.block_before_last(PLACES[network])
    with torch.no_grad():  # the network in eval mode, the dropout not, as the reference was made
        passes = trained.with_erased(images, place, AttentiveDrop(0.8, 1.0).train())
    return reference, passes


def test_the_pass_beside_the_erased_one_is_the_papers(dropped):
    reference, (outputs, _) = dropped
    assert_close(outputs.logits, reference["logits"])
    assert_close(outputs.feature_map.norm(dim=1), reference["feature_norm"])
    cam = outputs.cam(torch.tensor(TARGETS))
    assert_close(cam / outputs.feature_map.shape[1], reference["cams"])  # it averages channels
    directions = nn.functional.normalize(outputs.feature_map, dim=1)
    weights = nn.functional.normalize(outputs.weight[list(TARGETS)], dim=1)
    assert_close(torch.einsum("bchw,bc->bhw", directions, weights), reference["sim_target"])


def test_the_erased_pass_is_the_papers(dropped):
    reference, (outputs, erased) = dropped
    assert_close(erased.feature_map.norm(dim=1), reference["feature_erased_norm"])
    assert_close(drop_loss(outputs.feature_map, erased.feature_map), reference["drop_l1"])


# Attentive dropout ----------------------------------------------------------------------------


def test_with_probability_1_it_erases_what_is_strong_in_all_channels():
    feature_map = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)) + 1
    given = AttentiveDrop(0.5, 1.0)(feature_map)
    for b in range(3):
        means = [[sum(map(float, feature_map[b, :, y, x])) / 4 for x in range(6)] for y in range(5)]
        highest = max(map(max, means))
        for y in range(5):
            for x in range(6):
                kept = 0.0 if means[y][x] > 0.5 * highest else 1.0
                assert torch.equal(given[b, :, y, x], kept * feature_map[b, :, y, x])


def test_with_probability_0_or_outside_training_it_erases_nothing():
    feature_map = torch.rand(2, 3, 4, 4)
    assert torch.equal(AttentiveDrop(0.5, 0.0)(feature_map), feature_map)
    assert AttentiveDrop(0.5, 1.0).eval()(feature_map) is feature_map


@pytest.mark.parametrize("probability", [0.25, 0.5])
def test_it_erases_a_strong_position_with_its_probability(probability):
    torch.manual_seed(0)
    feature_map = torch.ones(4, 1, 100, 100)
    feature_map[:, :, ::2] = 0.1  # every other row is weak
    kept = AttentiveDrop(0.8, probability).keep(feature_map)
    assert (kept[:, :, ::2] == 1).all()
    share = 1 - kept[:, :, 1::2].mean().item()
    deviation = math.sqrt(probability * (1 - probability) / (4 * 50 * 100))
    assert abs(share - probability) < 4 * deviation


def test_no_gradient_flows_where_it_erases():
    feature_map = torch.rand(2, 3, 4, 4, requires_grad=True)
    drop = AttentiveDrop(0.8, 1.0)
    drop(feature_map).sum().backward()
    assert torch.equal(feature_map.grad, drop.keep(feature_map).expand_as(feature_map))
    assert (feature_map.grad == 0).any()


# Two passes in one ----------------------------------------------------------------------------


def separately(network: TrainableNetwork, images, place, erase):
    """The same by two passes from the images on, one after the other."""

    def erased(_layer, _inputs, output):
        return erase(output)

    first = network(images)
    handle = network.module.get_submodule(place).register_forward_hook(erased)
    second = network(images)
    handle.remove()
    return first, second


def halved(feature_map: torch.Tensor) -> torch.Tensor:
    """An erasure without chance."""
    mask = torch.ones_like(feature_map[:1, :1])
    mask[..., : feature_map.shape[-1] // 2] = 0
    return feature_map * mask


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", SMALL)
def test_both_passes_are_two_separate_ones(kind, train):
    together = trainable(SMALL[kind](), train=train)
    apart = trainable(SMALL[kind](), train=train)
    place = together.block_before_last()
    statistics = norms_before(apart, place)
    given = together.with_erased(photos(), place, halved)
    expected = separately(apart, photos(), place, halved)
    for outputs, wanted in zip(given, expected, strict=True):
        assert_close(outputs.activation.detach(), wanted.activation.detach())
        assert_close(outputs.logits.detach(), wanted.logits.detach())
    for first, second in (given, expected):
        loss = drop_loss(first.activation, second.activation) + first.logits.square().mean()
        loss.backward()
    parameters = zip(together.module.named_parameters(), apart.module.parameters(), strict=True)
    largest = max(parameter.grad.abs().max().item() for parameter in apart.module.parameters())
    for (name, a), b in parameters:  # what a BatchNorm behind it takes away is 0 but for rounding
        scale = max(b.grad.abs().max().item(), 1e-2 * largest)
        assert (a.grad - b.grad).abs().max() <= 1e-3 * scale, name
    for (name, a), b in zip(together.module.named_buffers(), apart.module.buffers(), strict=True):
        if name.rpartition(".")[0] not in statistics:  # two passes count what is before twice
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def norms_before(network: TrainableNetwork, place: str) -> set[str]:
    """Names of the BatchNorms that run before a place."""
    names: list[str] = []
    handles = [
        layer.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, layer in network.module.named_modules()
        if isinstance(layer, _BatchNorm) or name == place
    ]
    with torch.no_grad():
        network.backbone.forward(network.module.eval(), photos(1))
    network.module.train(network.training)
    for handle in handles:
        handle.remove()
    return set(names[: names.index(place)])


def test_nothing_of_the_erasure_stays_in_the_network():
    network = trainable(small_resnet(), train=False)
    before = network(photos()).logits
    with pytest.raises(RuntimeError, match="broken"):
        network.with_erased(photos(), "layer4.0", broken)
    network.with_erased(photos(), "layer4.0", halved)
    assert torch.equal(network(photos()).logits, before)
    assert not any("forward" in vars(layer) for layer in network.module.modules())


def broken(_feature_map: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("broken")


def test_what_lies_before_the_place_runs_once():
    network = trainable(small_resnet())
    assert network.place("layer4.0").layer == "layer4.0"  # found by a run of its own, before
    rows: dict[str, list[int]] = {"layer3": [], "layer4.1": []}
    for name, batches in rows.items():
        network.module.get_submodule(name).register_forward_hook(
            lambda _layer, _inputs, output, batches=batches: batches.append(len(output))
        )
    network.with_erased(photos(), "layer4.0", halved)
    assert rows == {"layer3": [3], "layer4.1": [6]}


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (small_resnet, "layer4.0"),
        (small_replknet, "stages.3.blocks.0"),
        (small_slak, "stages.3.0"),
        (lambda: wsolviz.load_backbone("timm/convnext_atto", None, 5), "stages.3.blocks.0"),
        (lambda: wsolviz.load_backbone("efficientnet_lite0", None, 5), "blocks.5.0"),
        (lambda: wsolviz.load_backbone("resnet50_cam", None, 5), "layer4.0"),
    ],
)
def test_the_first_block_of_the_last_stage_is_found(make, place):
    assert TrainableNetwork(make()).block_before_last() == place


def test_a_network_without_stages_needs_a_place():
    network = TrainableNetwork(wsolviz.load_backbone("vgg16_cam", None, 5))
    with pytest.raises(ValueError, match="vgg16_cam has no stages of blocks; say behind which"):
        network.block_before_last()
    assert network.block_before_last("features.22") == "features.22"
    with pytest.raises(ValueError, match=r"vgg16_cam has no layer 'features\.99'"):
        network.block_before_last("features.99")
    with pytest.raises(ValueError, match="vgg16_cam: 'fc' does not give one map a pass"):
        network.block_before_last("fc")


def test_nothing_is_erased_where_a_shortcut_goes_past():
    network = TrainableNetwork(wsolviz.load_backbone("timm/test_resnet", None, 5))
    before = [tensor.clone() for tensor in network.module.state_dict().values()]
    with pytest.raises(ValueError, match=r"nothing can be erased behind 'layer3\.0\.conv1'"):
        network.block_before_last("layer3.0.conv1")
    assert network.block_before_last("layer3.0") == "layer3.0"
    assert all(map(torch.equal, before, network.module.state_dict().values()))


# Features with gradients ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", SMALL)
def test_the_map_averages_to_the_logits_with_all_their_gradients(kind):
    """Of a head with and without a norm, by autograd through the network's own logits."""
    network = trainable(SMALL[kind](), train=False)
    generator = torch.Generator().manual_seed(4)
    cotangent = torch.randn(3, 5, generator=generator)
    outputs = network(photos())
    feature_map, weight, bias = outputs.head.features(outputs.activation, "logit")
    assert torch.equal(feature_map, outputs.feature_map)
    averaged = feature_map.mean(dim=(2, 3)) @ weight.T + bias
    assert_close(averaged.detach(), outputs.logits.detach())
    names, parameters = zip(*network.module.named_parameters(), strict=True)
    given, expected = (
        torch.autograd.grad((logits * cotangent).sum(), parameters, retain_graph=True)
        for logits in (averaged, outputs.logits)
    )
    for name, a, b in zip(names, given, expected, strict=True):
        assert (a - b).abs().max() <= 1e-3 * max(b.abs().max().item(), 1e-3), name
    head = {"BatchNorm": ("norm", "head"), "LayerNorm": ("norm", "head"), "none": ("fc",)}[kind]
    for layer in head:
        for part in ("weight", "bias"):
            assert given[names.index(f"{layer}.{part}")].abs().max() > 0


@pytest.mark.parametrize("kind", SMALL)
def test_the_head_follows_its_parameters(kind):
    network = trainable(SMALL[kind](), train=False)
    classifier = network.classifier
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.add_(0.01)
    outputs = network(photos())
    assert torch.equal(outputs.weight, classifier.weight)
    feature_map, weight, bias = outputs.head.features(outputs.activation, "logit")
    averaged = feature_map.mean(dim=(2, 3)) @ weight.T + bias
    assert_close(averaged.detach(), outputs.logits.detach())


def test_a_backbone_without_an_exact_map_is_refused():
    backbone = wsolviz.load_backbone("timm/mobilenetv3_small_050", None, 5)
    with pytest.raises(ValueError, match="cannot be trained here: a nonlinearity between"):
        TrainableNetwork(backbone)
