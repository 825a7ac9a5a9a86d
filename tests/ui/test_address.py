from urllib.parse import parse_qsl

import pytest

from wsolviz.defaults import DEFAULTS
from wsolviz.ui.address import Choices, read_address


@pytest.mark.parametrize(
    "choices",
    [
        Choices(),
        Choices(backbones=("timm/resnet50.a1_in1k", "efficientnet_lite1"), methods=("cosine",)),
        Choices(class_choice="tabby, tabby cat", threshold=0.123, contours="all"),
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
        ({"methods": "cam,nothing"}, "There is no method 'nothing'"),
        ({"backbones": "a,b,c,d,e"}, "at most 4"),
    ],
)
def test_what_an_address_has_wrong_is_left_out_and_told(query, said):
    choices, problems = read_address({**query, "class_choice": "goldfish"})
    assert len(problems) == 1
    assert said in problems[0]
    assert choices.class_choice == "goldfish", "the rest is kept"
    assert choices.backbones == DEFAULTS.backbones
    choices.request()


def test_a_photo_is_no_part_of_an_address():
    assert "photo" not in Choices.model_fields
    assert read_address({"photo": "/etc/passwd"}) == (Choices(), [])
