"""Configurations: read strictly, changed by overrides, refused in words, written whole."""

from __future__ import annotations

import re

import pytest
import yaml
from PIL import Image
from pydantic import ValidationError

from training import config_errors
from training.config import DataConfig, MetadataSource, OptimizerConfig, TrainingConfig
from training.config_file import dump_config, load_config, parse_config
from training.methods import METHODS, Method
from training.section import Section
from wsolviz.preprocess import Preprocessing

LEAST = """
name: birds
method: {name: bridging_gap, sim_weight: 0.3}
backbone: {name: resnet50_cam}
data:
  train:
    - {kind: metadata, root: dataset/CUB}
    - {kind: folders, root: more}
optimizer: {lr: 3e-4}
schedule:
  name: step
  milestones: [4, 6]
epochs: 10
"""


def parse(*overrides: str, text: str = LEAST) -> TrainingConfig:
    return parse_config(text, overrides)


def refused(*overrides: str, text: str = LEAST) -> list[str]:
    """The error's lines, one a key."""
    with pytest.raises(ValueError, match="cannot be used:\n") as caught:
        parse_config(text, overrides)
    return [line.removeprefix("  ") for line in str(caught.value).splitlines()[1:]]


def test_what_a_file_says_and_what_it_leaves_out():
    config = parse()
    assert config.optimizer == OptimizerConfig(lr=3e-4)
    assert config.method == METHODS["bridging_gap"].Options(name="bridging_gap", sim_weight=0.3)
    assert [source.root for source in config.data.train] == ["dataset/CUB", "more"]
    assert config.data.train[0] == MetadataSource(root="dataset/CUB")
    assert config.schedule.milestones == (4, 6)
    assert config.epochs == 10


# Plain values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3e-4", 3e-4),
        ("3E4", 3e4),
        ("1.e-2", 1e-2),
        (".5", 0.5),
        ("+2", 2.0),
        ("010", 10.0),  # in YAML 1.1 octal
    ],
)
def test_numbers_are_those_of_yaml_1_2(written, value):
    assert parse(f"optimizer.lr={written}").optimizer.lr == value


@pytest.mark.parametrize("text", ["on", "no", "yes", "1:30", "2026-01-01", "1_000", "0x10", ".inf"])
def test_what_only_older_yaml_takes_for_something_else_is_text(text):
    assert parse(f"licence={text}").licence == text


@pytest.mark.parametrize("written", ["~", "null", "Null", ""])
def test_null(written):
    assert parse(f"backbone.weights={written}").backbone.weights is None


# Overrides --------------------------------------------------------------------------------------


def test_overrides_reach_every_depth():
    config = parse(
        "optimizer.lr=1e-3",
        "data.train.1.root=a=b",
        "schedule.milestones=[3, 5]",
        "augmentation.rand_augment.num_ops=3",
        "distillation={backbone: efficientnet_lite0, temperature: 2}",
        "distillation.weight=0.5",
        "data.validation.root=there",
        "epochs=7",
        "epochs=8",
    )
    assert config.optimizer.lr == 1e-3
    assert config.data.train[1].root == "a=b"
    assert config.data.train[0].root == "dataset/CUB"
    assert config.schedule.milestones == (3, 5)
    assert config.augmentation.rand_augment.num_ops == 3
    assert config.augmentation.rand_augment.magnitude == 9
    assert (config.distillation.temperature, config.distillation.weight) == (2, 0.5)
    assert config.data.validation == MetadataSource(root="there")
    assert config.epochs == 8


def test_an_override_changes_one_place_of_those_that_share_an_anchor():
    text = LEAST.replace(
        "    - {kind: metadata, root: dataset/CUB}\n    - {kind: folders, root: more}\n",
        "    - &birds {kind: metadata, root: dataset/CUB}\n    - *birds\n",
    )
    config = parse("data.train.0.root=other", text=text)
    assert [source.root for source in config.data.train] == ["other", "dataset/CUB"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epochs", "'epochs' is no key.path=value"),
        ("=3", "'=3' is no key.path=value"),
        ("optimizer..lr=3", "'optimizer..lr=3' is no key.path=value"),
        ("data.train.2.root=x", "data.train is a list of 2, counted from 0, without an entry 2"),
        ("data.train.first=x", "without an entry first"),
        ("data.train.-1=x", "without an entry -1"),
        ("epochs.most=3", "epochs.most cannot be set: epochs is 10, which has no keys"),
        ("schedule.milestones=[3", "The value of schedule.milestones, line 1: while parsing"),
        ("method={name: cam, name: cam}", "line 1: the key name stands"),
    ],
)
def test_an_override_that_leads_nowhere(override, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(override)


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optimzer.lr=3", "optimzer: unknown key. Did you mean 'optimizer'? Known: name, method, "),
        ("optimizer.rate=3", "optimizer.rate: unknown key. Known: name, lr, head_lr_factor, "),
        ("method.sim_wieght=3", "method.sim_wieght: unknown key. Did you mean 'sim_weight'? "),
        ("method.bridging_gap=3", "method.bridging_gap: unknown key. Known: name, sim_weight, "),
        ("data.train.1.split=val", "data.train.1.split: unknown key. Known: kind, root."),
        ("method.name=bridgin", "method.name: given \"bridgin\". Did you mean 'bridging_gap'? "),
        ("data.train.0.kind=x", 'data.train.0.kind: given "x". Known: folders, metadata, webdata'),
        ("data.train.0={root: x}", "data.train.0.kind: missing. Known: folders, metadata, webda"),
        ("data.train.0.root=3", "data.train.0.root: given 3; allowed: text."),
        ("data.train=[]", "data.train: given []; allowed: a list of at least 1, each keys of whi"),
        ("optimizer={}", "optimizer.lr: missing; allowed: a number > 0."),
        ("optimizer.lr=0", "optimizer.lr: given 0; allowed: a number > 0."),
        ("optimizer.lr=1e999", "optimizer.lr: given Infinity; allowed: a number > 0."),
        ("optimizer.lr=.nan", 'optimizer.lr: given ".nan"; allowed: a number > 0.'),
        ("optimizer.lr=true", "optimizer.lr: given true; allowed: a number > 0."),
        ("optimizer=fast", 'optimizer: given "fast"; allowed: keys out of name, lr, head_lr_fact'),
        ("epochs=1.0", "epochs: given 1.0; allowed: a whole number ≥ 1."),
        ("epochs=null", "epochs: given null; allowed: a whole number ≥ 1."),
        ("ema=1.0", "ema: given 1.0; allowed: a number ≥ 0 and < 1, or null."),
        ("channels_last=yes", 'channels_last: given "yes"; allowed: true or false.'),
        ("precision=bf16", "precision: given \"bf16\". Did you mean 'bfloat16'? Known: float32, "),
        (
            "augmentation.rand_augment.magnitude=31",
            "augmentation.rand_augment.magnitude: given 31; allowed: a whole number ≥ 0 and ≤ 30.",
        ),
        (
            "augmentation.crop_area=[0.1, 0.2, 0.3]",
            "augmentation.crop_area: given [0.1, 0.2, 0.3]; allowed: a list of 2: a number ≥ 0 an",
        ),
        ("augmentation.crop_area=[0.1]", "augmentation.crop_area.1: missing; allowed: a number ≥ "),
        ("method=3", "method: given 3; allowed: keys of which name is "),
        ("method=null", "method: given null; allowed: keys of which name is "),
        ("data.validation={kind: x, root: y}", 'data.validation.kind: given "x"; allowed: metad'),
        (f"licence=[{'x' * 99}]", f'licence: given ["{"x" * 57}…; allowed: text, or null.'),
    ],
)
def test_one_mistake_is_one_line(override, line):
    (given,) = refused(override)
    assert given.startswith(line)


def test_all_mistakes_are_said_at_once():
    lines = refused("epochs=0", "optimizer.lr=fast", "optimizer.momentun=0", "seed=-1")
    assert {line.partition(":")[0] for line in lines} == {
        "epochs",
        "optimizer.lr",
        "optimizer.momentun",
        "seed",
    }


def test_an_empty_file_lacks_everything_that_has_no_default():
    required = [key for key, field in TrainingConfig.model_fields.items() if field.is_required()]
    assert [line.partition(": missing; allowed: ")[0] for line in refused(text="")] == required


def test_checks_and_unions_of_any_options_are_told_apart(monkeypatch):
    """A check's own error stands behind its path; what no type of a union takes is said once."""

    class Options(Section):
        size: int | str = 1

        def model_post_init(self, _context):
            if self.size == 13:
                raise ValueError("13 is unlucky.")

    class Whole(Section):
        method: Options

    def lines(size):
        with pytest.raises(ValidationError) as caught:
            Whole.model_validate_json(f'{{"method": {{"size": {size}}}}}')
        return config_errors.lines_of(caught.value)

    monkeypatch.setattr(config_errors, "_root", Whole.model_json_schema)
    assert lines("2.5") == ["method.size: given 2.5; allowed: a whole number, or text."]
    assert lines("13") == ["method: 13 is unlucky."]


# What does not go together ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["name=a/b"], "name: 'a/b' names no folder and no file; allowed: "),
        (["name=.hidden"], "name: '.hidden' names no folder"),
        (["name=''"], "name: '' names no folder"),
        (["batch_size=30", "accumulate=4"], "batch_size: 30 photos cannot be parted into accumul"),
        (["schedule.warmup_epochs=11"], "schedule.warmup_epochs: 11 is more than epochs = 10; "),
        (["schedule.milestones=[6, 4]"], "schedule.milestones: [6, 4]; allowed with the schedul"),
        (["schedule.milestones=[4, 4]"], "schedule.milestones: [4, 4]; allowed"),
        (["schedule.milestones=[4, 10]"], "schedule.milestones: [4, 10]; allowed"),
        (["schedule.milestones=[]"], "schedule.milestones: []; allowed"),
        (["augmentation.resize=null"], "augmentation.resize: null; allowed with the crop random"),
        (["data.image_size=257"], "augmentation.resize: 256; allowed with the crop random: at l"),
        (["augmentation.crop_area=[0.5, 0.4]"], "augmentation.crop_area: [0.5, 0.4]; allowed: t"),
        (["augmentation.crop_ratio=[2, 1]"], "augmentation.crop_ratio: [2, 1]; allowed: the sm"),
        (["validation.methods=[cam, cosin]"], "validation.methods.1: There is no method 'cosin"),
        (["validation.methods=[cam+0*pc1]"], "validation.methods.0: 'cam+0*pc1' is not a sum of"),
    ],
)
def test_values_that_contradict_each_other(overrides, line):
    (given,) = refused(*overrides)
    assert given.startswith(line)


@pytest.mark.parametrize(
    "overrides",
    [
        ["name=cub-resnet50_v1.2"],
        ["batch_size=32", "accumulate=4"],
        ["schedule.warmup_epochs=10"],
        ["schedule={name: cosine, milestones: [99]}"],  # which do not count there
        ["data.image_size=256"],
        ["augmentation={crop: random_resized, resize: null}"],
        ["augmentation={crop: none, resize: 100}"],
        ["validation.methods=[cam+0.5*feature_norm, pc1]"],
        ["augmentation.mixup=0.2", "augmentation.cutmix=1"],
        ["ema=0.999"],
    ],
)
def test_values_that_go_together(overrides):
    parse(*overrides)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_method_that_mixes_images_leaves_no_room_for_another(monkeypatch, mix):
    monkeypatch.setattr(METHODS["cam"], "mixes_images", True)
    (given,) = refused("method={name: cam}", f"augmentation.{mix}=0.2")
    assert given.startswith("augmentation: the method cam mixes images itself; allowed beside it: ")
    parse("method={name: cam}")
    assert Method.mixes_images is False


def test_a_method_with_maps_needs_photos_whose_pixels_stay_in_place():
    method = "method={name: map_distillation, teacher: {backbone: resnet50_cam, layers: [layer4]}}"
    parse(method)
    shards = "data.train.0={kind: webdataset, shards: a.tar, num_images: 9, class_names: [a, b]}"
    given = refused(method, shards, "augmentation.mixup=1", "augmentation.rand_augment={}")
    keys = ["data.train.0.kind", "augmentation.rand_augment", "augmentation.mixup"]
    assert [line.partition(":")[0] for line in given] == keys


def test_a_teacher_sees_the_images_that_the_network_sees():
    (given,) = refused("method={name: cutmix}", "distillation={backbone: resnet50_cam}")
    assert given.startswith("distillation: the method cutmix mixes images itself")
    parse("method={name: cam}", "augmentation.cutmix=1", "distillation={backbone: resnet50_cam}")


# Files ------------------------------------------------------------------------------------------


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path):
    path = tmp_path / "birds.yaml"
    path.write_text(f"\ufeff{LEAST}", encoding="utf-8")
    assert load_config(path, ["epochs=8"]) == parse("epochs=8")
    with pytest.raises(ValueError, match=r"birds\.yaml with epochs=0 cannot be used:\n  epochs: "):
        load_config(path, ["epochs=0"])
    with pytest.raises(FileNotFoundError, match=r"bird\.yaml. In .* there are: birds\.yaml\."):
        load_config(tmp_path / "bird.yaml")
    path.write_bytes(b"name: \xff")
    with pytest.raises(ValueError, match=r"birds\.yaml is not UTF-8 text"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{LEAST}epochs: 3\n", r"C, line 14: the key epochs stands on line 13 already\."),
        ("optimizer:\n  lr: 1\n  lr: 2\n", r"C, line 3: the key lr stands on line 2 already\."),
        ("name: [a\n", r"C, line 2: while parsing a flow sequence, expected"),
        ("name: a\n\tepochs: 3\n", r"C, line 2: "),
        ("- a\n", r"C should consist of keys and values"),
        ("epochs\n", r"C should consist of keys and values"),
        ("name: !!python/object:os.system x\n", r"C, line 1: could not determine a constructor"),
        ("name: !!binary aGk=\n", r"C may hold text, numbers, true, false, null, lists and keys"),
        ("name: &a [*a]\n", r"C may hold text, .*Circular"),
        ("name: \x00\n", r"C is not YAML: "),
        ("? [a]\n: 3\n", r"C, line 1: .*unhashable"),
    ],
)
def test_what_is_no_yaml_of_keys_is_said_with_its_line(text, said):
    with pytest.raises(ValueError, match=said):
        parse_config(text, source="C")


# Writing ----------------------------------------------------------------------------------------

ODD = ["1e5", "08", "0o17", "on", "no", "null", "~", "1:30", "2026-01-01", ".inf", "<<", "=", "1_0"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["method={name: cam}", "distillation.backbone=resnet50_cam", "ema=0.9999"],
        ["augmentation.rand_augment={}", "data.validation.root=x", "data.mean=[0.5, 0.5, 0.5]"],
        ["optimizer.lr=1e-5", "optimizer.weight_decay=5e-324", "optimizer.head_lr_factor=1e16"],
    ],
)
def test_what_is_written_reads_back_equal(overrides):
    config = parse(*overrides)
    text = dump_config(config)
    assert parse_config(text) == config
    assert yaml.safe_load(text) == config.model_dump(mode="json")  # by other readers, too
    assert set(yaml.safe_load(text)) == set(TrainingConfig.model_fields)


@pytest.mark.parametrize(
    "text", [*ODD, "a: b", "#a", " a ", "é\n", "'", '"', "true", "-", "x" * 300]
)
def test_any_text_reads_back_as_that_text(text):
    config = parse().model_copy(update={"licence": text})
    assert parse_config(dump_config(config)).licence == text


# Preprocessing ----------------------------------------------------------------------------------


def test_the_backbones_preprocessing_is_kept_but_for_what_is_set():
    usual = Preprocessing((300, 200), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    source = MetadataSource(root="x")
    assert DataConfig(train=(source,)).preprocessing(usual) == Preprocessing(
        (224, 224), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    )
    changed = DataConfig(
        train=(source,),
        image_size=384,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bilinear",
    )
    half = (0.5, 0.5, 0.5)
    expected = Preprocessing((384, 384), half, half, Image.Resampling.BILINEAR)
    assert changed.preprocessing(usual) == expected
