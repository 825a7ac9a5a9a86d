"""The zoo: complete, buildable, and loading the authors' files as its entries say."""

import hashlib
import re
from dataclasses import replace

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import wsolviz
from tests.parity.test_networks import official_state
from tests.training.record.conftest import record_of
from training.config_file import load_config
from training.publish.weights import Origin, write_weights
from wsolviz import METHODS
from wsolviz.backends.architecture import ARCHITECTURES
from wsolviz.backends.loading import BACKBONES, LoadRequest, find_entry
from wsolviz.backends.zoo import FOLDER_VARIABLE, REPOSITORY, ZOO, default_entry, read_zoo
from wsolviz.backends.zoo_backbones import load_entry
from wsolviz.errors import public_text
from wsolviz.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

HALF = (0.5, 0.5, 0.5)
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def request(entry, weights="default"):
    return LoadRequest(entry.name, weights, None, torch.device("cpu"), None, torch.float32)


def official_convnext(depths=(3, 3, 9, 3), channels=(96, 192, 384, 768), num_classes=1000):
    """Names and shapes that ConvNeXt's own code gives its parameters."""
    shapes = {
        "downsample_layers.0.0.weight": (channels[0], 3, 4, 4),
        "downsample_layers.0.0.bias": (channels[0],),
        "downsample_layers.0.1.weight": (channels[0],),
        "downsample_layers.0.1.bias": (channels[0],),
        "norm.weight": (channels[-1],),
        "norm.bias": (channels[-1],),
        "head.weight": (num_classes, channels[-1]),
        "head.bias": (num_classes,),
    }
    for stage, (depth, width) in enumerate(zip(depths, channels, strict=True)):
        if stage:
            narrower, place = channels[stage - 1], f"downsample_layers.{stage}"
            shapes |= {f"{place}.0.weight": (narrower,), f"{place}.0.bias": (narrower,)}
            shapes |= {f"{place}.1.weight": (width, narrower, 2, 2), f"{place}.1.bias": (width,)}
        for block in range(depth):
            shapes |= {
                f"stages.{stage}.{block}.{name}": shape
                for name, shape in {
                    "dwconv.weight": (width, 1, 7, 7),
                    "dwconv.bias": (width,),
                    "norm.weight": (width,),
                    "norm.bias": (width,),
                    "pwconv1.weight": (4 * width, width),
                    "pwconv1.bias": (4 * width,),
                    "pwconv2.weight": (width, 4 * width),
                    "pwconv2.bias": (width,),
                    "gamma": (width,),
                }.items()
            }
    generator = torch.Generator().manual_seed(0)
    return {k: 0.05 * torch.randn(shape, generator=generator) for k, shape in shapes.items()}


def with_classes(state, head, num_classes):
    generator = torch.Generator().manual_seed(0)
    channels = state[f"{head}.weight"].shape[1]
    return state | {
        f"{head}.weight": torch.randn(num_classes, channels, generator=generator),
        f"{head}.bias": torch.randn(num_classes, generator=generator),
    }


# What the authors' scripts write for an entry, and its input as their pages and code have it.
RELEASED = {
    "replknet_31b.cub": (
        lambda: with_classes(official_state("replknet31b"), "head", 200),
        Preprocessing((384, 384), HALF, HALF, BILINEAR),
    ),
    "convnext_base_cub.cub": (
        lambda: official_state("convnext_base_cub"),
        Preprocessing((384, 384), HALF, HALF, BILINEAR),
    ),
    "slak_tiny.in1k": (
        lambda: {"model": official_state("slak_tiny")},
        Preprocessing((224, 224), IMAGENET_MEAN, IMAGENET_STD, BICUBIC),
    ),
    "convnext_tiny.in22k_ft_in1k_384": (
        lambda: {"model": official_convnext()},
        Preprocessing((384, 384), IMAGENET_MEAN, IMAGENET_STD, BICUBIC),
    ),
    "vgg16_cam.cub_bridging": (
        lambda: with_classes(official_state("bridging_vgg16_drop_14"), "fc", 200),
        Preprocessing((224, 224), IMAGENET_MEAN, IMAGENET_STD, BILINEAR),
    ),
    "resnet50_cam.in1k_bridging": (
        lambda: with_classes(official_state("bridging_resnet50_drop_28"), "fc", 1000),
        Preprocessing((224, 224), IMAGENET_MEAN, IMAGENET_STD, BILINEAR),
    ),
}


def release(entry, content=None):
    """Write the file of an entry, by default as its authors' scripts would."""
    content = RELEASED[entry.name][0]() if content is None else content
    save = save_file if entry.path.suffix == ".safetensors" else torch.save
    save(content, entry.path)
    return entry.path


@pytest.mark.parametrize("entry", ZOO.values(), ids=ZOO)
def test_an_entry_says_what_its_backbone_can_be(entry):
    with torch.device("meta"):
        if entry.backbone.startswith("timm/"):
            name = entry.backbone.removeprefix("timm/")
            module = timm.create_model(name, num_classes=entry.num_classes)
            (head,) = {module.get_classifier()}
            # timm has inputs by tag, and the official files have none of timm's tags.
            assert None not in entry.input.model_dump().values()
        else:
            architecture = ARCHITECTURES[entry.backbone]
            module = architecture.make(entry.num_classes, entry.output_stride)
            head = module.get_submodule(architecture.classifier)
    assert head.out_features == entry.num_classes
    assert (
        entry.num_classes
        == {"ImageNet-1K": 1000, "CUB-200-2011": 200, "Tiny-ImageNet": 200}[entry.classes]
    )
    assert {figures.method for figures in entry.published} <= METHODS.keys()
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    if entry.is_bundled:
        assert (REPOSITORY / entry.page).is_file() and entry.is_here and entry.sha256
        return
    addresses = [entry.page, entry.url, entry.link, *(f.source for f in entry.published)]
    assert all(a.startswith("https://") for a in addresses if a is not None)
    assert sum(way is not None for way in (entry.url, entry.link, entry.training)) == 1
    assert entry.file.endswith((".pth", ".safetensors"))
    assert BACKBONES[entry.name].help == entry.help


def test_entries_do_not_share_files_and_architectures_have_one_default():
    files = [entry.file for entry in ZOO.values()]
    assert len(set(files)) == len(files)
    defaults = [entry.backbone for entry in ZOO.values() if entry.is_default]
    assert len(set(defaults)) == len(defaults)
    assert set(defaults) <= ARCHITECTURES.keys()


def test_the_figures_of_cam_back_again():
    found = {
        (entry.name, f.method): (f.max_box_acc, f.max_box_acc_v2, entry.space)
        for entry in ZOO.values()
        for f in entry.published
    }
    assert found == {
        ("convnext_base_cub.cub", "cam"): (80.15, 66.33, "pre_norm"),
        ("convnext_base_cub.cub", "pc1_paper"): (83.3, 76.5, "pre_norm"),
        ("replknet_31b.cub", "cam"): (90.99, 76.4, "pre_norm"),
        ("replknet_31b.cub", "pc1_paper"): (93.6, 80.4, "pre_norm"),
    }


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_file_loads_under_its_entrys_name(name, folder):
    entry, preprocessing = ZOO[name], RELEASED[name][1]
    path = release(entry)
    backbone = wsolviz.load_backbone(name, device="cpu")
    assert backbone.name == name
    assert backbone.preprocessing == preprocessing
    assert backbone.num_classes == entry.num_classes
    first = {"ImageNet-1K": ("tench, Tinca tinca",), "CUB-200-2011": ()}
    assert backbone.class_names[:1] == first[entry.classes]
    assert backbone.weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.weights.licence == entry.licence
    assert entry.page in backbone.weights.source
    alone = find_entry(entry.backbone).load(
        replace(request(entry, path), name=entry.backbone, output_stride=entry.output_stride)
    )
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = alone.forward(alone.module, images)[1]
    assert expected.std() > 0
    off = (backbone.extract(images).logits - expected).abs().max()
    assert off <= 1e-4 * expected.abs().max()


def test_an_absent_file_is_told_with_what_to_do(folder):
    entry = ZOO["replknet_31b.cub"]
    assert BACKBONES[entry.name].missing() == entry.missing()
    with pytest.raises(FileNotFoundError) as caught:
        wsolviz.load_backbone(entry.name)
    said = str(caught.value)
    assert entry.how_to_get in said
    assert str(folder / "replknet_31B1K384_CUB.pth") in said
    assert all(choice in said for choice in ("file/PATH", "weights=FILE", "weights=None"))
    for public in (public_text(caught.value), entry.missing()):
        assert entry.name in public
        assert str(folder) not in public


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "replknet_31b.cub",
            "Download https://drive.google.com/file/d/1P8tInmaFknK2sbx5d1__A3U_Ij6T2SD-/view (from "
            "https://github.com/snskysk/CAM-Back-Again) and save it as "
            "weights/replknet_31B1K384_CUB.pth.",
        ),
        (
            "convnext_tiny.in1k",
            "Run python -m wsolviz zoo get convnext_tiny.in1k, which fetches it to "
            "weights/convnext_tiny_1k_224_ema.pth.",
        ),
        (
            "vgg16_cam.cub_bridging",
            "Its authors (https://github.com/ejkim47/bridging-gap-wsol) have published no file: "
            "train it with python -m training.train --config "
            "training/configs/bridging_gap_cub_vgg16.yaml, and copy "
            "out/training/bridging_gap_cub_vgg16/bridging_gap_cub_vgg16.safetensors to "
            "weights/bridging_vgg16_cub.safetensors.",
        ),
        (
            "efficientnet_lite0.wsol",
            "It comes with the project: get weights/trained/efficientnet_lite0_wsol.safetensors "
            "from its repository anew.",
        ),
    ],
)
def test_how_to_get_a_file_is_one_line(name, line, monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert ZOO[name].how_to_get == line
    monkeypatch.setenv(FOLDER_VARIABLE, "/somewhere/else")
    elsewhere = line if ZOO[name].is_bundled else line.replace("weights/", "$WSOLVIZ_WEIGHTS/")
    assert ZOO[name].how_to_get == elsewhere


TRAINED = [entry for entry in ZOO.values() if entry.training]


@pytest.mark.parametrize("entry", TRAINED, ids=[entry.name for entry in TRAINED])
def test_what_nobody_published_loads_once_it_is_trained_and_copied(entry, folder, tmp_path):
    """The line's own command and paths, with weights that no training has changed."""
    said = re.search(
        r"--config (\S+), and copy (\S+) to \$WSOLVIZ_WEIGHTS/(\S+)\.$", entry.how_to_get
    )
    file, result, place = said.groups()
    config = load_config(REPOSITORY / file)
    wanted = config.backbone
    assert result == f"out/training/{config.name}/{config.name}.safetensors"
    trained = wsolviz.load_backbone(
        wanted.name, None, entry.num_classes, "cpu", wanted.output_stride, shared=False
    )
    run = tmp_path / "out" / "training" / config.name
    run.mkdir(parents=True)
    written = write_weights(run, config, trained, record_of(1, None), Origin("", ""))
    assert written == tmp_path / result
    (folder / place).write_bytes(written.read_bytes())
    found = wsolviz.load_backbone(entry.name, device="cpu", shared=False)
    assert (found.name, found.weights.licence) == (entry.name, entry.licence)
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.extract(images).logits, trained.extract(images).logits)


def test_an_architecture_loads_its_default_entry_when_its_file_is_here(folder):
    entry = default_entry("slak_tiny")
    assert entry.how_to_get in BACKBONES["slak_tiny"].missing()
    with pytest.raises(FileNotFoundError, match=re.escape(entry.how_to_get)):
        wsolviz.load_backbone("slak_tiny", device="cpu")
    state = official_state("slak_tiny")
    release(entry, {"model": state})
    assert BACKBONES["slak_tiny"].missing() == ""
    backbone = wsolviz.load_backbone("slak_tiny", device="cpu")
    assert backbone.name == "slak_tiny"
    assert backbone.weights.licence == "MIT"
    torch.testing.assert_close(backbone.module.state_dict(), state)
    release(entry, {"model": state | {"head.bias": state["head.bias"] + 1}})
    renewed = wsolviz.load_backbone("slak_tiny", device="cpu")
    torch.testing.assert_close(renewed.module.head.bias, state["head.bias"] + 1)


def test_an_architecture_without_a_default_entry_says_so():
    assert "No weights come with vgg16_cam" in BACKBONES["vgg16_cam"].missing()
    with pytest.raises(FileNotFoundError, match="No weights come with vgg16_cam"):
        wsolviz.load_backbone("vgg16_cam")


def test_another_file_than_the_zoo_means_is_refused(folder):
    content = {"model": official_state("slak_tiny")}
    plain = ZOO["slak_tiny.in1k"]
    found = hashlib.sha256(release(plain, content).read_bytes()).hexdigest()
    right = plain.model_copy(update={"sha256": found})
    assert load_entry(right, request(right)).weights.sha256 == found
    wrong = plain.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ValueError, match=f"its SHA-256 is {found} and not 0000") as caught:
        load_entry(wrong, request(wrong))
    assert str(folder) not in public_text(caught.value)
    # Whoever names the file means it.
    assert load_entry(wrong, request(wrong, plain.path)).weights.sha256 == found


def test_a_file_of_another_network_does_not_load(folder):
    entry = ZOO["slak_tiny.in1k"]
    release(entry, {"model": official_convnext()})
    with pytest.raises(ValueError, match=r"SLaK_tiny_checkpoint\.pth does not fit SLaK"):
        load_entry(entry, request(entry))
    release(entry, {"model": with_classes(official_state("slak_tiny"), "head", 7)})
    with pytest.raises(ValueError, match=r"head\.weight \(7, 998\) instead of \(1000, 998\)"):
        load_entry(entry, request(entry))


def test_an_entry_without_weights_is_random_with_its_own_input():
    backbone = wsolviz.load_backbone("vgg16_cam.cub_bridging", weights=None, device="cpu")
    assert backbone.weights.source == "random"
    assert backbone.num_classes == 200
    assert backbone.preprocessing.interpolation is BILINEAR


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"licnece": "MIT"}, "licnece"),
        ({"num_classes": "200"}, "num_classes"),
        ({"space": "logits"}, "space"),
    ],
)
def test_a_slip_in_the_zoos_file_is_found(change, said, tmp_path):
    fields = ZOO["slak_tiny.in1k"].model_dump(mode="json", exclude_none=True) | change
    (tmp_path / "zoo.yaml").write_text(repr([fields]).replace("True", "true"))
    with pytest.raises(ValueError, match=said):
        read_zoo(tmp_path / "zoo.yaml")
