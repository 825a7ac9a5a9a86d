from urllib.parse import parse_qsl

import pytest

from wsolviz.compare import CompareRequest
from wsolviz.defaults import DEFAULTS
from wsolviz.ui.address import Choices, read_address
from wsolviz.ui.answers import answer_address
from wsolviz.ui.controls import EXAMPLES


@pytest.mark.parametrize(
    "choices",
    [
        Choices(),
        Choices(backbones=("timm/resnet50.a1_in1k", "efficientnet_lite1"), methods=("cosine",)),
        Choices(class_choice="tabby, tabby cat", threshold=0.123, contours="all"),
        Choices(overrides={"timm/resnet50/cam": 0.25, "efficientnet_lite0/cam+2*pc1": 1.0}),
        Choices(space="pre_norm", image_size=320, output_stride=16, opacity=0.2, colormap="gray"),
    ],
)
def test_an_address_gives_back_what_was_chosen(choices):
    restored, problems = read_address(dict(parse_qsl(choices.query())))
    assert restored == choices
    assert problems == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"threshold": "high"}, "threshold"),
        ({"contours": "biggest"}, "contours"),
        ({"colormap": "jet"}, "colormap"),
        ({"image_size": "9"}, "image_size"),
        ({"overrides": "efficientnet_lite0/cam:high"}, "overrides"),
        ({"overrides": "nonsense"}, "overrides"),
        ({"methods": "cam,nothing"}, "There is no method 'nothing'"),
        ({"output_stride": "7"}, "output_stride"),
        ({"scales": "224,many"}, "scales"),
        ({"scales": "224,320", "image_size": "224"}, "Give image_size or scales, not both"),
    ],
)
def test_what_an_address_has_wrong_is_left_out_and_told(query, said):
    choices, problems = read_address({**query, "class_choice": "goldfish"})
    assert len(problems) == 1
    assert said in problems[0]
    assert choices.class_choice == "goldfish", "the rest is kept"
    assert choices.backbones == DEFAULTS.backbones
    choices.request()


def test_the_good_part_of_a_list_is_kept():
    choices, problems = read_address({"methods": "cosine,no,cam", "backbones": "a,b,c,d,e,a"})
    assert choices.methods == ("cosine", "cam")
    assert choices.backbones == ("a", "b", "c", "d")
    assert len(problems) == 2
    assert "e were left out: at most 4" in problems[0]


def test_doubles_are_taken_once():
    choices, problems = read_address({"methods": "cam,cam", "backbones": "x,y,x,y,x"})
    assert problems == []
    assert (choices.methods, choices.backbones) == (("cam",), ("x", "y"))
    request = CompareRequest(backbones=("x", "x", "y"), methods=("pc1", "cam", "pc1"))
    assert (request.backbones, request.methods) == (("x", "y"), ("pc1", "cam"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"class_choice": "xyzzy"}, "class_choice was left out: There is no class 'xyzzy'"),
        ({"backbones": ("nothing",)}, "backbones was left out: There is no backbone 'nothing'"),
    ],
)
def test_what_nothing_can_be_shown_with_gives_way_to_the_rest(wrong, said):
    wanted = Choices(methods=("pc1", "cosine"), threshold=0.5, **wrong)
    told, choices, problems = answer_address(EXAMPLES[0], wanted)
    assert choices == Choices(methods=("pc1", "cosine"), threshold=0.5)
    assert len(problems) == 1
    assert said in problems[0]
    assert [column["method"] for column in told.payload["columns"]] == ["pc1", "cosine"]


def test_one_of_two_backbones_that_fails_is_told_in_its_row():
    wanted = Choices(backbones=("nothing", "efficientnet_lite0"))
    told, choices, problems = answer_address(EXAMPLES[0], wanted)
    assert (choices, problems) == (wanted, [])
    assert "There is no backbone" in told.status


def test_a_photo_is_no_part_of_an_address():
    assert "photo" not in Choices.model_fields
    assert read_address({"photo": "/etc/passwd"}) == (Choices(), [])
