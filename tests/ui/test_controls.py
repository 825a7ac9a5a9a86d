"""What the controls hold, as choices."""

import pytest

from wsolviz.ui.address import Choices
from wsolviz.ui.controls import read_controls


def read(image_size=None, scales=""):
    chosen = Choices()
    return read_controls(
        list(chosen.backbones),
        list(chosen.methods),
        "",
        chosen.space,
        image_size,
        0,
        chosen.precision,
        scales,
        False,
    )


def test_controls_left_alone_are_the_defaults():
    assert read() == Choices()


def test_sizes_are_read():
    assert read(image_size=320.0).image_size == 320
    assert read(scales=" 224, 320;416 ").scales == (224, 320, 416)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image_size": 100.7}, "Input size: 100.7 is not a whole number of pixels from 32 to"),
        ({"image_size": 0}, "Input size: 0 is not"),
        ({"image_size": 9999}, "Input size: 9999 is not"),
        ({"image_size": -1e30}, "Input size: -1e[+]30 is not"),
        ({"scales": "224, many"}, "Several input sizes: many is not"),
        ({"scales": "224 5"}, "Several input sizes: 5 is not"),
        ({"image_size": 224, "scales": "224"}, "either Input size or Several input sizes"),
    ],
)
def test_a_wrong_size_is_told_by_the_fields_own_name(fields, said):
    with pytest.raises(ValueError, match=said):
        read(**fields)
