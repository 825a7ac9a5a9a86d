"""Weights files in every official form are told apart, loaded whole, or refused with a reason."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.parity.fill import image
from tests.parity.test_networks import NAMES, official_state, shapes
from wsolviz import load_backbone
from wsolviz.backends import checkpoints
from wsolviz.backends.identify import identify
from wsolviz.backends.own_format import Input, WeightsHeader, read_header, save_checkpoint
from wsolviz.defaults import Defaults
from wsolviz.preprocess import Preprocessing

SMALL = [case for case in shapes() if case not in ("replknet31l", "replknetxl", "slak_base")]


CLASSIFIERS = {
    "replknet_31b": "head.bias",
    "slak_tiny": "head.bias",
    "slak_small": "head.bias",
    "convnext_base_cub": "1.fc.bias",
    "vgg16_cam": "fc.bias",
    "resnet50_cam": "fc.bias",
}


def expected_backbones(case: str) -> tuple[str, ...]:
    if "resnet50_cam" in case:  # the plain ResNet50 has the same names and shapes
        return ("resnet50_cam", "timm/resnet50")
    return (NAMES.get(case) or f"{case.split('_')[1]}_cam",)


@pytest.mark.parametrize("case", SMALL)
def test_official_files_are_known_by_their_tensors(case, tmp_path):
    torch.save({"model": official_state(case), "epoch": 7}, tmp_path / "checkpoint.pth")
    found = identify(tmp_path / "checkpoint.pth")
    assert found.backbones == expected_backbones(case)
    assert found.num_classes == (
        200 if "cub" in case or "bridging" in case or "31b" in case else 1000
    )
    assert found.form == "PyTorch, under model"


def slak_state(kernels: str) -> dict[str, torch.Tensor]:
    backbone = load_backbone(f"slak_tiny/{kernels}", None, 7, device="cpu")
    return backbone.module.state_dict()


@pytest.mark.parametrize("kernels", ["61-59-57-13", "31-29-27-13-plain"])
def test_other_kernels_are_read_off_the_weights(kernels, tmp_path):
    save_file(slak_state(kernels), tmp_path / "a.safetensors")
    found = identify(tmp_path / "a.safetensors")
    assert found.backbones == (f"slak_tiny/{kernels}",)
    assert found.num_classes == 7
    by_name = load_backbone("slak_tiny", tmp_path / "a.safetensors", device="cpu")
    by_file = load_backbone(f"file/{tmp_path / 'a.safetensors'}", device="cpu")
    images = image(64)
    assert torch.equal(by_name.extract(images).logits, by_file.extract(images).logits)


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("resnet50_cam_14x14.pth.tar", {}, ("resnet50_cam",)),
        ("resnet50-0676ba61.pth", {}, ("timm/resnet50",)),
        ("last.pth.tar", {"architecture": "resnet50"}, ("resnet50_cam",)),
        ("last.pth.tar", {"arch": "resnet50"}, ("timm/resnet50",)),
        ("last.pth.tar", {}, ("resnet50_cam", "timm/resnet50")),
    ],
)
def test_what_the_tensors_cannot_say_the_file_or_its_name_says(name, extra, expected, tmp_path):
    state = official_state("bridging_resnet50_cam_28")
    torch.save({"state_dict": state, **extra}, tmp_path / name)
    assert identify(tmp_path / name).backbones == expected


def test_weights_for_several_networks_are_loaded_only_by_name(tmp_path):
    path = tmp_path / "last.pth.tar"
    torch.save({"state_dict": official_state("bridging_resnet50_cam_28")}, path)
    with pytest.raises(ValueError, match=r"resnet50_cam.* or .*timm/resnet50"):
        load_backbone(f"file/{path}")
    fine = load_backbone("resnet50_cam", path, device="cpu")
    coarse = load_backbone("resnet50_cam", path, device="cpu", output_stride=16)
    assert fine.extract(image(224)).feature_map.shape[2:] == (28, 28)
    assert coarse.extract(image(224)).feature_map.shape[2:] == (14, 14)


def official_convnext(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names of a ConvNeXt to those of its authors' files."""
    renames = [
        ("stem.0.", "downsample_layers.0.0."),
        ("stem.1.", "downsample_layers.0.1."),
        (".blocks.", "."),
        (".conv_dw.", ".dwconv."),
        (".mlp.fc1.", ".pwconv1."),
        (".mlp.fc2.", ".pwconv2."),
        ("head.fc.", "head."),
    ]
    official = {}
    for name, tensor in state.items():
        if ".downsample." in name:
            new = "downsample_layers" + name.removeprefix("stages").replace(".downsample", "")
        elif name.startswith("head.norm."):
            new = name.removeprefix("head.")
        else:
            new = name
            for old, by in renames:
                new = new.replace(old, by)
        official[new] = tensor
    return official


def test_timms_and_the_authors_convnext_are_the_same_network(tmp_path):
    state = timm.create_model("convnext_tiny", num_classes=5).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    torch.save({"model": official_convnext(state)}, tmp_path / "theirs.pth")
    by_timm, by_authors = (
        load_backbone(f"file/{tmp_path / name}", device="cpu")
        for name in ("mine.safetensors", "theirs.pth")
    )
    assert identify(tmp_path / "theirs.pth").backbones == ("timm/convnext_tiny",)
    assert by_timm.num_classes == by_authors.num_classes == 5
    images = image(224)
    assert torch.equal(by_timm.extract(images).logits, by_authors.extract(images).logits)


def test_a_partial_file_is_refused_with_the_closest_networks_and_what_is_missing(tmp_path):
    state = official_state("slak_tiny")
    del state["norm.weight"]
    state["head.bias"] = torch.zeros(3)
    state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "a.pth")
    for load in (identify, lambda path: load_backbone("slak_tiny", path)):
        with pytest.raises(ValueError, match=r"norm\.weight") as caught:
            load(tmp_path / "a.pth")
        said = str(caught.value)
        assert said.index("slak_tiny (") < said.index("slak_small (") < said.index("slak_base (")
        assert "1 missing (norm.weight)" in said
        assert "1 unexpected (extra)" in said
        assert "1 of another shape (head.bias (3,) instead of (1000,))" in said


def test_weights_of_another_network_say_whose_they_are(tmp_path):
    torch.save(official_state("bridging_vgg16_cam_28"), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="is a checkpoint of vgg16_cam with 200 classes"):
        load_backbone("slak_tiny", tmp_path / "a.pth")


def test_a_file_of_nothing_known(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="No network that is known here"):
        identify(tmp_path / "a.pth")


def test_options_and_scores_beside_the_weights_are_no_hindrance(tmp_path):
    state = official_state("bridging_vgg16_cam_14")
    extra = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.7), "n": np.int64(3)}
    torch.save({"state_dict": state, **extra}, tmp_path / "a.pth")
    assert identify(tmp_path / "a.pth").backbones == ("vgg16_cam",)


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pth")
    monkeypatch.setattr(checkpoints, "DEFAULTS", Defaults(max_checkpoint_bytes=1000))
    with pytest.raises(ValueError, match=r"files of up to .* GiB are read"):
        identify(tmp_path / "a.pth")


HEADER = WeightsHeader(
    backbone="vgg16_cam",
    num_classes=3,
    output_stride=8,
    class_names=("a", "b", "c"),
    input=Input.of(Preprocessing((96, 64), (0.5,) * 3, (0.25,) * 3, Image.Resampling.BILINEAR)),
    licence="Apache-2.0",
    source="a test",
)


def test_a_file_of_ours_brings_its_input_and_classes(tmp_path):
    path = tmp_path / "ours.safetensors"
    made = load_backbone("vgg16_cam", None, 3, "cpu", 8)
    save_checkpoint(made.module.state_dict(), path, HEADER)
    assert read_header(path) == HEADER
    assert identify(path).header == HEADER
    for backbone in (
        load_backbone(f"file/{path}", device="cpu"),
        load_backbone("vgg16_cam", path, device="cpu"),
    ):
        assert backbone.class_names == ("a", "b", "c")
        assert backbone.preprocessing == HEADER.input.preprocessing()
        assert backbone.weights.licence == "Apache-2.0"
        photo = Image.new("RGB", (50, 40), "teal")
        features = backbone.extract(backbone.preprocess(photo)[None])
        assert features.feature_map.shape == (1, 1024, 12, 8)
        expected = made.extract(HEADER.input.preprocessing()(photo)[None]).logits
        torch.testing.assert_close(features.logits, expected)


def test_random_weights_of_a_files_network_keep_its_input_and_not_its_licence(tmp_path):
    path = tmp_path / "ours.safetensors"
    save_checkpoint(load_backbone("vgg16_cam", None, 3, "cpu", 8).module.state_dict(), path, HEADER)
    backbone = load_backbone(f"file/{path}", None, device="cpu")
    assert (backbone.weights.source, backbone.weights.licence) == ("random", None)
    assert backbone.preprocessing == HEADER.input.preprocessing()
    assert (backbone.name, backbone.class_names) == (f"file/{path}", ("a", "b", "c"))


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "ours.safetensors"
    for value in (1.0, 2.0):
        module = load_backbone("vgg16_cam", None, 3, "cpu", 8).module
        module.fc.bias.fill_(value)
        save_checkpoint(module.state_dict(), path, HEADER)
        assert float(load_backbone(f"file/{path}", device="cpu").module.fc.bias[0]) == value


def test_nothing_stands_under_the_name_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    def fail(path, content):
        with path.open("wb") as file:
            file.write(content[:9])
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match=r"a\.safetensors cannot be written: No space"):
            save_checkpoint({"a": torch.zeros(2)}, tmp_path / "a.safetensors", HEADER)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"needs that ending"):
        save_checkpoint({"a": torch.zeros(2)}, tmp_path / "a.pth", HEADER)


def test_a_header_that_cannot_be_read_is_said(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"wsolviz": '{"backbone": 3}'})
    with pytest.raises(ValueError, match=r"cannot be read: backbone"):
        read_header(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["slak_tiny/61-59", "slak_tiny/60-59-57-13", "slak_tiny/a-plain"])
def test_kernels_that_are_none_are_refused(name):
    with pytest.raises(ValueError, match="such as 61-59-57-13"):
        load_backbone(name, None)


def test_a_variants_name_takes_as_many_classes_as_its_file_has(tmp_path):
    name = "slak_tiny/13-11-9-7"
    save_file(
        load_backbone(name, None, 7, device="cpu").module.state_dict(), tmp_path / "a.safetensors"
    )
    assert load_backbone(name, tmp_path / "a.safetensors", device="cpu").num_classes == 7


@pytest.mark.parametrize("name", ["head.weight", "fc.weight", "1.fc.weight"])
def test_a_classifier_without_rows_fits_nothing(name, tmp_path):
    save_file({name: torch.tensor(1.0)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="fits no network whole"):
        identify(tmp_path / "a.safetensors")


def test_a_filter_that_there_is_not_is_said(tmp_path):
    header = json.loads(HEADER.model_dump_json())
    header["input"]["interpolation"] = "magic"
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", {"wsolviz": json.dumps(header)})
    with pytest.raises(ValueError, match=r"no filter 'magic', only nearest, .*bicubic"):
        read_header(tmp_path / "a.safetensors")


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(OSError, match=r"cannot be written: .*No such file"):
        save_checkpoint({"a": torch.zeros(2)}, tmp_path / "none" / "a.safetensors", HEADER)


def test_who_may_read_weights_is_who_may_read_other_files(tmp_path):
    (tmp_path / "other").touch()
    save_checkpoint({"a": torch.zeros(2)}, tmp_path / "a.safetensors", HEADER)
    modes = [(tmp_path / name).stat().st_mode for name in ("other", "a.safetensors")]
    assert modes[0] == modes[1]
