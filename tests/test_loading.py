"""Loading by name: options, sharing, devices, weights from files, and clear refusals."""

import threading

import pytest
import timm
import torch
from safetensors.torch import save_file

import wsolviz
from wsolviz.backends.efficientnet_lite import to_timm_names, weights_path
from wsolviz.backends.loading import pick_device


def test_one_load_serves_every_caller():
    results = [None] * 4

    def load(index):
        results[index] = wsolviz.load_backbone("efficientnet_lite1")

    threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result is results[0] for result in results)


def test_random_weights_are_not_shared():
    first, second = (
        wsolviz.load_backbone("timm/resnet10t", weights=None, num_classes=3) for _ in range(2)
    )
    assert not torch.equal(first.module.conv1[0].weight, second.module.conv1[0].weight)
    assert first.weights.source == "random"


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "weights.safetensors"
    loaded = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = timm.create_model("resnet10t", num_classes=3)
        save_file(model.state_dict(), path)
        backbone = wsolviz.load_backbone("timm/resnet10t", weights=path, num_classes=3)
        torch.testing.assert_close(backbone.module.state_dict(), model.state_dict())
        loaded.append(backbone.weights.sha256)
    assert loaded[0] != loaded[1]


def test_lite_weights_are_mapped_onto_timms_names():
    """By the order of the parameters, which both implementations share."""
    state = torch.load(weights_path(0), weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    renamed = to_timm_names(state, [len(stage) for stage in model.blocks])
    assert list(renamed) == list(model.state_dict())
    for tensor, original in zip(renamed.values(), state.values(), strict=True):
        assert tensor is original
    module = wsolviz.load_backbone("efficientnet_lite0").module
    torch.testing.assert_close(module.state_dict(), renamed)


@pytest.mark.parametrize(
    ("name", "size"),
    [("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260)],
)
def test_lite_backbones_are_exact(name, size):
    backbone = wsolviz.load_backbone(name)
    assert backbone.exact
    assert backbone.preprocessing.size == (size, size)
    assert backbone.weights.licence == "Apache-2.0"


def test_lite_with_other_classes_or_weights(tmp_path):
    with pytest.raises(ValueError, match="1000 classes, not 7"):
        wsolviz.load_backbone("efficientnet_lite0", num_classes=7)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=7)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "seven.pth")
    backbone = wsolviz.load_backbone(
        "efficientnet_lite0", weights=tmp_path / "seven.pth", num_classes=7
    )
    torch.testing.assert_close(backbone.module.state_dict(), model.state_dict())
    assert backbone.class_names == ()


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights file .*absent\.pth"):
        wsolviz.load_backbone("efficientnet_lite0", weights=tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="precision is one of float32"):
        wsolviz.load_backbone("efficientnet_lite0", precision="float8")
    with pytest.raises(ValueError, match=r"no backbone 'nothing/at_all'.*Known: .* and \d+ more"):
        wsolviz.load_backbone("nothing/at_all")


def test_bfloat16_gives_nearly_the_same_logits():
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    full = wsolviz.load_backbone("efficientnet_lite0").extract(images)
    half = wsolviz.load_backbone("efficientnet_lite0", precision="bfloat16").extract(images)
    assert half.logits.dtype == half.feature_map.dtype == torch.float32
    scale = full.logits.abs().max()
    deviation = (half.logits - full.logits).abs().max() / scale
    assert 0 < deviation < 0.1


def test_the_device_is_found():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    if torch.backends.mps.is_available():
        expected = "mps"
    assert pick_device("auto").type == expected
    assert pick_device("cpu").type == "cpu"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    on_cpu, on_cuda = (
        wsolviz.load_backbone("efficientnet_lite0", device=device).extract(images)
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(on_cuda.logits.cpu(), on_cpu.logits, rtol=1e-2, atol=1e-2)
    for name in ("cam", "pc1", "cosine", "gradcam"):
        heatmap = wsolviz.METHODS[name](on_cuda, 3)
        expected = wsolviz.METHODS[name](on_cpu, 3)
        torch.testing.assert_close(heatmap.cpu(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("stride", [0, -1, 3, 7, 64])
def test_an_output_stride_that_makes_no_sense_is_refused(stride):
    with pytest.raises(ValueError, match="output_stride is one of 8, 16, 32"):
        wsolviz.load_backbone("efficientnet_lite0", output_stride=stride)


def test_features_of_an_evicted_backbone_are_forgotten():
    """Else they would keep it alive, and memory would not be bounded."""
    from PIL import Image

    from wsolviz.backends import loading
    from wsolviz.explain import _inspections, inspect_photo

    backbone = wsolviz.load_backbone("timm/resnet10t", weights=None, num_classes=3)
    inspect_photo(Image.new("RGB", (32, 32), "red"), backbone)

    def held():
        return [i for i, _ in _inspections._values.values() if i.backbone is backbone]

    assert len(held()) == 1
    loading._loaded._on_eviction(backbone)
    assert held() == []


def test_half_precision_is_as_exact_as_it_says():
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = wsolviz.load_backbone("efficientnet_lite0", precision="bfloat16").extract(images)
    rebuilt = features.feature_map.mean(dim=(2, 3)) @ features.weight.T + features.bias
    assert features.exact
    assert (rebuilt - features.logits).abs().max() <= 1e-4 * features.logits.abs().max()


def test_loading_side_by_side_leaves_the_process_as_it_was():
    before = torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32
    threads = [
        threading.Thread(
            target=wsolviz.load_backbone, args=("timm/resnet10t",), kwargs={"weights": None}
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32) == before
