"""Places, stages and layouts, against networks whose layers can be named by hand."""

import pytest
import torch
from torch import nn

import wsolviz
from training.models import TrainableNetwork
from training.places import Place, behind, find_places, find_stages
from wsolviz.backends.architecture import NetworkBackbone
from wsolviz.backends.base import WeightsInfo
from wsolviz.backends.layout import Layout
from wsolviz.backends.replknet import RepLKNet
from wsolviz.preprocess import Preprocessing

SIZE = (6, 8)  # of an image; maps are 3×4


def test_reading_and_changing_by_layout():
    generator = torch.Generator().manual_seed(0)
    expected = torch.randn(2, 5, 3, 4, generator=generator)
    tokens = torch.randn(2, 2, 5, generator=generator)  # a class token and a register
    outputs = {
        "BCHW": (expected, 0),
        "BHWC": (expected.permute(0, 2, 3, 1).contiguous(), 0),
        "BCN": (expected.reshape(2, 5, 12), 0),
        "BNC": (torch.cat([tokens, expected.reshape(2, 5, 12).permute(0, 2, 1)], dim=1), 2),
    }
    for axes, (output, prefix) in outputs.items():
        place = Place("some", Layout(axes, prefix), (5, 3, 4))
        assert torch.equal(place.read(output, SIZE), expected), axes
        changed = place.change(output, SIZE, lambda maps: 2 * maps)
        by_hand = 2 * output
        if prefix:
            by_hand[:, :2] = tokens
        assert torch.equal(changed, by_hand), axes


def test_places_of_a_resnet():
    backbone = wsolviz.load_backbone("timm/test_resnet", weights=None)
    backbone.module.train()
    backbone.module.layer2.eval()
    state = torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in backbone.module.state_dict().items()}
    places = find_places(backbone)
    assert torch.equal(torch.get_rng_state(), state), "draws no random numbers"
    assert backbone.module.training and backbone.module.layer1[0].training
    assert not backbone.module.layer2[0].bn1.training, "each layer is in its own mode again"
    assert all(torch.equal(t, before[name]) for name, t in backbone.module.state_dict().items())
    # 160 pixels over a stride of 32, as the census says.
    assert places["layer4.0"] == Place("layer4.0", Layout("BCHW"), (96, 5, 5))
    assert list(places).index("layer3") < list(places).index("layer4.0.conv1")
    assert "fc" not in places
    stages = find_stages(backbone.module, places)
    expected = ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert [[place.layer for place in stage] for stage in stages] == [[name] for name in expected]


def replknet():
    module = RepLKNet((8, 12, 16, 20), (7, 5, 5, 5), num_classes=4)
    weights = WeightsInfo("random")
    return NetworkBackbone("small", module, Preprocessing(size=(64, 64)), weights=weights)


def test_stages_go_by_the_order_of_the_pass():
    """RepLKNet keeps its transitions behind its stages, which the pass goes through in turn."""
    network = TrainableNetwork(replknet())
    names = [[place.layer for place in stage] for stage in network.stages]
    assert [len(stage) for stage in names] == [4, 4, 36, 4]
    assert names[-1] == [f"stages.3.blocks.{block}" for block in range(4)]
    assert network.block_before_last() == "stages.3.blocks.0"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("timm/test_resnet", "layer3.0"),  # stages of one block: something must follow
        ("timm/test_convnext", "stages.3.blocks.0"),
        ("timm/tiny_vit_5m_224", "stages.3.blocks.0"),
    ],
)
def test_the_place_to_erase_at(name, place):
    network = TrainableNetwork(wsolviz.load_backbone(name, weights=None, num_classes=3))
    assert network.block_before_last() == place
    assert network.block_before_last("stages.0" if "vit" in name else place)


def test_a_layer_that_is_no_place():
    network = TrainableNetwork(wsolviz.load_backbone("timm/test_resnet", weights=None))
    with pytest.raises(ValueError, match=r"has no layer 'layer9'.*layer4"):
        network.place("layer9")
    with pytest.raises(ValueError, match="'fc' does not give one map a pass"):
        network.place("fc")


def test_no_stages_to_choose_from():
    network = TrainableNetwork(wsolviz.load_backbone("vgg16_cam", weights=None, num_classes=3))
    with pytest.raises(ValueError, match="no stages of blocks"):
        network.block_before_last()
    assert network.block_before_last("features.22") == "features.22"


def test_erasing_where_channels_come_last():
    """TinyViT's blocks give (B,h,w,C); what is erased is positions, not rows."""
    backbone = wsolviz.load_backbone("timm/tiny_vit_5m_224", weights=None, num_classes=3)
    network = TrainableNetwork(backbone)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    seen = []

    def first_cell(maps):
        seen.append(maps.shape)
        keep = torch.ones_like(maps)
        keep[:, :, 0, 0] = 0
        return maps * keep

    with torch.no_grad():
        plain, erased = network.with_erased(images, "stages.3.blocks.0", first_cell)

        def by_hand(output):
            changed = output.clone()
            changed[:, 0, 0, :] = 0
            return changed

        with behind(backbone.module, {"stages.3.blocks.0": by_hand}):
            expected = network(images)
        torch.testing.assert_close(plain.logits, network(images).logits)
    assert seen == [(1, 320, 7, 7)]
    torch.testing.assert_close(erased.logits, expected.logits)
    assert (plain.logits - erased.logits).abs().max() > 1e-5


def test_functions_are_gone_afterwards():
    layer = nn.Sequential(nn.Identity())
    with pytest.raises(KeyError), behind(layer, {"0": lambda output: output + 1}):
        assert layer(torch.zeros(1)) == 1
        raise KeyError
    assert layer(torch.zeros(1)) == 0
