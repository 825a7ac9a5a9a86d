"""timm's models as backbones, against logits rebuilt by hand from the models' own layers."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from benchmarks.timm_census import randomize
from wsolviz.backends import timm_models
from wsolviz.backends.base import Backbone, WeightsInfo
from wsolviz.backends.inner_map import InnerMapBackbone
from wsolviz.backends.timm_backbone import as_backbone, load_timm

SIZE = 64


def small(name: str, **options: object) -> nn.Module:
    """A model with random values in every norm, bias and head, for images of 64×64."""
    torch.manual_seed(0)
    overlay = {"input_size": (3, SIZE, SIZE)}
    module = timm.create_model(name, num_classes=7, pretrained_cfg_overlay=overlay, **options)
    randomize(module)
    return module.eval()


def backbone_of(module: nn.Module) -> Backbone:
    return as_backbone("timm/tiny", module, WeightsInfo("random"))


def some_images(batch: int = 2, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_near(given: torch.Tensor, expected: torch.Tensor, share: float = 1e-4) -> None:
    assert given.shape == expected.shape
    assert (given - expected).abs().max() <= share * expected.abs().max()


# Heads by hand: a model and the map it averages, to feature_map, weight and bias in logit space.


def by_linear(classifier):
    def rebuild(model, f):
        layer = model.get_submodule(classifier)
        return f, layer.weight.flatten(1), layer.bias

    return rebuild


def by_layer_norm(norm, classifier):
    def rebuild(model, f):
        norm_layer, layer = model.get_submodule(norm), model.get_submodule(classifier)
        folded = torch.empty_like(f)
        for b, one in enumerate(f):
            pooled = one.mean(dim=(1, 2))
            sigma = (pooled.var(unbiased=False) + norm_layer.eps).sqrt()
            centred = one - one.mean(dim=0)
            folded[b] = norm_layer.weight[:, None, None] * centred / sigma
        return folded, layer.weight, layer.bias + layer.weight @ norm_layer.bias

    return rebuild


def fold_batch_norm(norm, layer):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return layer.weight * scale, layer.bias + layer.weight @ shift


def by_two_heads(model, f):
    weight = (model.head.weight + model.head_dist.weight) / 2
    return f, weight, (model.head.bias + model.head_dist.bias) / 2


def by_two_batch_norm_heads(model, f):
    one, two = (fold_batch_norm(h.bn, h.linear) for h in (model.head, model.head_dist))
    return f, (one[0] + two[0]) / 2, (one[1] + two[1]) / 2


def by_batch_norm_head(model, f):
    norm, layer = model.head.bn, model.head.linear
    return (
        functional.batch_norm(
            f, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        ),
        layer.weight,
        layer.bias,
    )


def channels_first(f):
    return f


def channels_last(f):
    return f.permute(0, 3, 1, 2)


def tokens(prefix, side):
    def to_map(f):
        return f[:, prefix:].transpose(1, 2).reshape(len(f), f.shape[2], side, side)

    return to_map


VIT = {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": SIZE}
SWIN = {"depths": (1, 1, 2), "num_heads": (1, 2, 4), "embed_dim": 12, "img_size": SIZE}
EXACT = {
    "resnet10t": ({}, channels_first, by_linear("fc"), "linear"),
    "regnetx_002": ({}, channels_first, by_linear("head.fc"), "linear"),
    "dla46x_c": ({}, channels_first, by_linear("fc"), "linear"),
    "tf_efficientnet_lite0": ({}, channels_first, by_linear("classifier"), "linear"),
    "test_convnext": (
        {},
        channels_first,
        by_layer_norm("head.norm", "head.fc"),
        "LayerNorm, linear",
    ),
    "swin_tiny_patch4_window7_224": (SWIN, channels_last, by_linear("head.fc"), "linear"),
    "vit_base_patch16_224": (
        VIT | {"global_pool": "avg"},
        tokens(1, 4),
        by_layer_norm("fc_norm", "head"),
        "LayerNorm, linear",
    ),
    "vit_tiny_patch16_dinov3_qkvb": (
        VIT | {"global_pool": "avg"},
        tokens(5, 4),
        by_linear("head"),
        "linear",
    ),
    "gmlp_ti16_224": (
        {"img_size": SIZE},
        tokens(0, 4),
        by_linear("head"),
        "linear",
    ),
    "efficientformer_l1": ({"img_size": 224}, tokens(0, 7), by_two_heads, "affine layers"),
    "levit_128s": ({"img_size": 128}, tokens(0, 2), by_two_batch_norm_heads, "affine layers"),
    "efficientvit_m0": ({"img_size": 128}, channels_first, by_batch_norm_head, "BatchNorm, linear"),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_heads_are_what_the_models_layers_say(name):
    options, to_map, rebuild, form = EXACT[name]
    size = options.get("img_size", SIZE)
    if name == "efficientformer_l1":
        options = {}  # its attention fits 224×224 alone
    module = small(name, **options)
    module.pretrained_cfg["input_size"] = (3, size, size)
    images = some_images(2, size, size)
    backbone = backbone_of(module)
    with torch.no_grad():
        feature_map, weight, bias = rebuild(module, to_map(module.forward_features(images)))
        logits = module(images)
    features = backbone.extract(images)

    assert features.exact
    assert backbone.head.form == form
    assert backbone.gap_deviation < 1e-5
    assert backbone.inexactness == ""
    assert_near(features.feature_map, feature_map)
    assert_near(features.weight, weight)
    assert_near(features.bias, bias)
    assert_near(features.logits, logits)
    cam = torch.einsum("bchw,kc->bkhw", features.feature_map, features.weight)
    assert_near(cam.mean(dim=(2, 3)) + features.bias, logits)


@pytest.mark.parametrize("name", ["resnet10t", "efficientformerv2_s0"])
def test_a_linear_heads_weight_is_the_gradient_of_its_logit(name):
    backbone = backbone_of(small(name))
    features = backbone.extract(some_images())
    activation = features.replay.activation.clone().requires_grad_()
    logits = features.replay.logits_from_map(activation)
    assert_near(logits.detach(), features.logits)
    (gradient,) = torch.autograd.grad(logits[:, 3].sum(), activation)
    assert_near(gradient.sum(dim=(2, 3)), features.class_weight(3))


def assert_gradient_is_a_finite_difference(backbone: Backbone, logits_of_shifted) -> None:
    """Grad-CAM's weight of a channel is how fast the logit moves when the whole channel is raised.

    Args:
        backbone: in double precision.
        logits_of_shifted: images and (C,) added to every cell of the map, to logits; written
            without the backbone's own replay.
    """
    images = some_images(1).double()
    activation, logits = backbone.forward(backbone.module, images)
    with torch.enable_grad():
        leaf = activation.clone().requires_grad_()
        replayed = backbone.replay(images, leaf)
        (gradient,) = torch.autograd.grad(replayed[0, 2], leaf)
    torch.testing.assert_close(replayed.detach(), logits)
    weight = gradient.sum(dim=(2, 3))[0]
    assert (gradient != 0).any(dim=1).all(), "some cell does not count"
    for channel in range(0, len(weight), max(1, len(weight) // 6)):
        shift = torch.zeros(len(weight), dtype=torch.float64)
        shift[channel] = 1e-5
        up, down = logits_of_shifted(images, shift), logits_of_shifted(images, -shift)
        slope = (up - down)[0, 2] / 2e-5
        assert abs(slope - weight[channel]) < 1e-5 * weight.abs().max()


@torch.no_grad()
def test_mobilenets_hidden_layer_makes_it_inexact():
    module = small("mobilenetv3_small_050").double()
    backbone = backbone_of_double(module)

    def logits_of_shifted(images, shift):
        f = module.forward_features(images) + shift[:, None, None]
        hidden = module.act2(module.norm_head(module.conv_head(f.mean(dim=(2, 3), keepdim=True))))
        return module.classifier(hidden.flatten(1))

    assert_gradient_is_a_finite_difference(backbone, logits_of_shifted)
    single = backbone_of(module.float())
    features = single.extract(some_images())
    assert "nonlinearity" in single.inexactness
    assert features.weight.shape == (0, 288)
    assert features.class_weight(1).shape == (2, 288)


def backbone_of_double(module: nn.Module) -> Backbone:
    """The form is found in single precision, as always; then the numbers are made double."""
    backbone = backbone_of(module.float())
    assert not backbone.exact
    module.double()
    return backbone


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch16_dinov3"]
)
def test_a_class_token_is_explained_at_its_last_look_at_the_patches(name):
    options = VIT | {"global_pool": "token"}
    if "deit" in name:
        options.pop("img_size")
        options |= {"img_size": SIZE}
    module = small(name, **options)
    backbone = backbone_of_double(module)
    assert isinstance(backbone, InnerMapBackbone)
    assert backbone.place.layer == "blocks.1.norm1"
    prefix = module.num_prefix_tokens
    entering = {}
    hook = module.blocks[1].register_forward_pre_hook(
        lambda _m, args, kwargs: entering.update(x=args[0], kwargs=kwargs), with_kwargs=True
    )

    def logits_of_shifted(images, shift):
        module(images)
        x, block = entering["x"], module.blocks[1]
        normed = block.norm1(x)
        normed = torch.cat((normed[:, :prefix], normed[:, prefix:] + shift), dim=1)
        scale1 = getattr(block, "gamma_1", None)
        scale2 = getattr(block, "gamma_2", None)
        attended = block.attn(normed, **entering["kwargs"])
        x = x + (attended if scale1 is None else scale1 * attended)
        mixed = block.mlp(block.norm2(x))
        x = x + (mixed if scale2 is None else scale2 * mixed)
        return module.forward_head(module.norm(x))

    assert_gradient_is_a_finite_difference(backbone, logits_of_shifted)
    hook.remove()


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("cait_xxs24_224", "blocks_token_only.1.norm1"),
        ("xcit_nano_12_p16_224", "cls_attn_blocks.1.norm1"),
        ("efficientvim_m1", "norm.3"),
    ],
)
def test_other_inner_maps_replay_to_the_same_logits_and_count_everywhere(name, layer):
    options = {} if "vim" in name else {"img_size": SIZE, "depth": 2}
    size = 224 if "vim" in name else SIZE
    module = small(name, **options)
    module.pretrained_cfg["input_size"] = (3, size, size)
    backbone = backbone_of(module)
    assert backbone.place.layer == layer
    features = backbone.extract(some_images(1, size, size))
    assert not features.exact
    activation = features.replay.activation
    assert_near(features.replay.logits_from_map(activation), features.logits)
    # Three other maps of one image, each as if it stood alone.
    maps = torch.cat((activation, 0.5 * activation, activation.flip(3)))
    together = features.replay.logits_from_map(maps)
    for one, logits in zip(maps, together, strict=True):
        assert_near(features.replay.logits_from_map(one[None])[0], logits)
    assert not torch.allclose(together[0], together[1], rtol=1e-4)
    assert (features.class_weight(0) != 0).all()


def test_a_wide_photo_has_a_wide_grid_of_tokens():
    backbone = backbone_of(small("vit_base_patch16_224", **VIT, dynamic_img_size=True))
    images = some_images(1, 48, 112)
    features = backbone.extract(images)
    assert features.feature_map.shape[2:] == (3, 7)
    assert_near(features.replay.logits_from_map(features.replay.activation), features.logits)


def test_a_size_that_the_network_refuses_is_a_clear_error():
    backbone = backbone_of(small("gmlp_ti16_224", img_size=SIZE))
    with pytest.raises(ValueError, match=r"does not take images of 96×96 .* own size is 64×64"):
        backbone.extract(some_images(1, 96, 96))


def test_writing_to_the_weights_is_seen():
    module = small("test_resnet")
    backbone = backbone_of(module)
    before = backbone.extract(some_images())
    with torch.no_grad():
        module.fc.weight.mul_(2)
        module.layer1[0].bn1.weight.mul_(3)
    after = backbone.extract(some_images())
    assert_near(after.logits, module(some_images()))
    assert not torch.allclose(before.logits, after.logits, rtol=1e-2)


def test_a_network_without_places_is_refused_by_name():
    class Blind(nn.Module):
        """Averages the photo first: nothing behind it knows of places."""

        def __init__(self):
            super().__init__()
            self.num_classes, self.num_features = 4, 3
            self.pretrained_cfg = {"input_size": (3, SIZE, SIZE), "num_classes": 4}
            self.norm, self.fc = nn.LayerNorm(3), nn.Linear(3, 4)

        def forward_features(self, x):
            return self.norm(x.mean(dim=(2, 3)))

        def forward_head(self, x, pre_logits=False):
            return x if pre_logits else self.fc(x)

        def forward(self, x):
            return self.forward_head(self.forward_features(x))

    with pytest.raises(ValueError, match=r"timm/blind has no spatial map"):
        as_backbone("timm/blind", Blind(), WeightsInfo("random"))


def test_preprocessing_and_class_names_are_timms():
    backbone = load_timm("timm/tf_efficientnet_lite0", weights=None)
    assert backbone.name == "timm/tf_efficientnet_lite0"
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert backbone.class_names[281] == "tabby, tabby cat"
    assert len(backbone.class_names) == 1000
    assert load_timm("test_resnet", weights=None, num_classes=3).class_names == ()


def test_output_stride_gives_a_finer_map():
    plain = load_timm("resnet10t", weights=None)
    finer = load_timm("resnet10t", weights=None, output_stride=16)
    images = some_images(1)
    assert plain.extract(images).feature_map.shape[2:] == (2, 2)
    assert finer.extract(images).feature_map.shape[2:] == (4, 4)
    assert finer.exact
    with pytest.raises(
        ValueError, match=r"vit_tiny_patch16_224 does not offer output_stride.*ResN"
    ):
        load_timm("vit_tiny_patch16_224", weights=None, output_stride=16)
    with pytest.raises(ValueError, match="does not take output_stride=7"):
        load_timm("resnet10t", weights=None, output_stride=7)


def test_names_are_checked_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("built too early"))
    with pytest.raises(ValueError, match=r"no model 'resnet5'\. Did you mean .*resnet50"):
        load_timm("resnet5", weights=None)
    with pytest.raises(
        ValueError, match=r"resnet18 has no weights tagged 'mine'; it has: .*a1_in1k"
    ):
        load_timm("timm/resnet18.mine", weights=None)


def test_an_encoder_without_classes_says_so():
    with pytest.raises(
        ValueError, match=r"vit_small_patch16_dinov3 has no classifier.*num_classes"
    ):
        load_timm("vit_small_patch16_dinov3", weights=None)


def test_weights_that_are_nowhere_name_the_file_and_the_way(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(timm_models, "urlopen", offline)
    monkeypatch.setattr(
        timm_models.huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None
    )
    with pytest.raises(FileNotFoundError) as caught:
        load_timm("resnet10t")
    message = str(caught.value)
    assert "timm/resnet10t.c3_in1k (model.safetensors or pytorch_model.bin)" in message
    assert all(choice in message for choice in ("file/PATH", "weights=FILE", "weights=None"))


def test_weights_found_in_the_hubs_cache_are_loaded_and_hashed(monkeypatch, tmp_path):
    from safetensors.torch import save_file

    module = timm.create_model("test_resnet")
    randomize(module)
    path = tmp_path / "model.safetensors"
    save_file(module.state_dict(), path)
    monkeypatch.setattr(
        timm_models.huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(path)
    )
    backbone = load_timm("test_resnet")
    images = some_images(1, 160, 160)
    assert_near(backbone.extract(images).logits, module.eval()(images).detach())
    assert backbone.weights.source.startswith("hf-hub:timm/test_resnet")
    assert backbone.weights.licence == "apache-2.0"
    assert len(backbone.weights.sha256) == 64


def test_a_file_of_our_own_is_loaded_and_one_that_does_not_fit_named(tmp_path):
    module = timm.create_model("test_resnet", num_classes=3)
    randomize(module)
    path = tmp_path / "mine.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in module.state_dict().items()}}, path)
    images = some_images(1, 160, 160)
    for num_classes in (3, None):  # the weights' own
        backbone = load_timm("test_resnet", path, num_classes)
        assert_near(backbone.extract(images).logits, module.eval()(images).detach())
    with pytest.raises(
        ValueError, match=r"mine.pth does not fit ResNet: 2 of another shape \(fc\."
    ):
        load_timm("test_resnet", path, 5)


OFFICIAL_CONVNEXT = {
    "stem.": "downsample_layers.0.",
    "head.fc.": "head.",
    "head.norm.": "norm.",
    "conv_dw": "dwconv",
    "mlp.fc1": "pwconv1",
    "mlp.fc2": "pwconv2",
    "blocks.": "",
}


def official_convnext_name(name: str) -> str:
    name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
    for ours, theirs in OFFICIAL_CONVNEXT.items():
        name = name.replace(ours, theirs)
    return name


def test_official_names_are_renamed_where_the_family_knows_how(tmp_path):
    """ConvNeXt's authors call the stem downsample_layers.0; timm has its own names."""
    module = timm.create_model("test_convnext")
    randomize(module)
    official = {official_convnext_name(k): v for k, v in module.state_dict().items()}
    assert "downsample_layers.1.1.weight" in official
    assert "stages.0.0.dwconv.weight" in official
    torch.save({"model": official}, tmp_path / "official.pth")
    backbone = load_timm("test_convnext", tmp_path / "official.pth")
    images = some_images(1, 160, 160)
    assert_near(backbone.extract(images).logits, module.eval()(images).detach())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_base_patch16_224", VIT | {"global_pool": "avg"}),
        ("deit_tiny_distilled_patch16_224", VIT),
        ("swin_tiny_patch4_window7_224", SWIN | {"window_size": 2}),
        ("gmlp_ti16_224", {"img_size": SIZE}),
    ],
)
def test_a_cell_lies_where_the_photo_shows_what_it_saw(name, options):
    """Tokens in another order would pass every average: only a change of one patch tells."""
    backbone = backbone_of(small(name, **options))
    images = some_images(1)
    before = backbone.extract(images).replay.activation
    h, w = before.shape[2:]
    assert h * w >= 4
    for y in range(h):
        for x in range(w):
            changed = images.clone()
            rows = slice(y * SIZE // h, (y + 1) * SIZE // h)
            columns = slice(x * SIZE // w, (x + 1) * SIZE // w)
            changed[:, :, rows, columns] = -3 * changed[:, :, rows, columns].flip(3)
            after = backbone.extract(changed).replay.activation
            moved = (after - before).norm(dim=1)[0]
            assert divmod(int(moved.argmax()), w) == (y, x)


def test_loading_does_not_need_gradients_and_leaves_none():
    """Callers may hold torch.no_grad; the search for a place inside must work all the same."""
    with torch.no_grad():
        backbone = backbone_of(small("deit_tiny_distilled_patch16_224", **VIT))
    features = backbone.extract(some_images())
    assert not features.feature_map.requires_grad
    assert all(p.grad is None and not p.requires_grad for p in backbone.module.parameters())
    assert (features.class_weight(2) != 0).all()


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_threads_share_a_backbone(pool):
    """One thread's photo must never turn up in another's features, nor its maps in a forward."""
    options = VIT | {"global_pool": pool}
    backbone = backbone_of(small("vit_base_patch16_224", **options))
    photos = [some_images(1) * (1 + i) for i in range(6)]

    def explain(photo):
        features = backbone.extract(photo)
        replayed = features.replay.logits_from_map(2 * features.replay.activation)
        return features.logits, features.class_weight(1), replayed

    alone = [explain(photo) for photo in photos]
    with ThreadPoolExecutor(6) as pool_of_threads:
        together = list(pool_of_threads.map(explain, photos * 3))
    for given, expected in zip(together, alone * 3, strict=True):
        for a, b in zip(given, expected, strict=True):
            assert_near(a, b)


def test_a_network_that_cannot_be_fused_still_runs(monkeypatch, caplog):
    def fail(*_):
        raise AttributeError("no attribute 'kernel_size'")

    monkeypatch.setattr("wsolviz.backends.derived.accelerate", fail)
    module = small("test_resnet")
    features = backbone_of(module).extract(some_images())
    assert_near(features.logits, module(some_images()).detach())
    assert "timm/tiny stays unfused" in caplog.text
