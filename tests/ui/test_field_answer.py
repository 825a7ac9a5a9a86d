"""What a click on a map in Compare is answered."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import wsolviz
from wsolviz.analysis.erf import log_scaled
from wsolviz.receptive_field import measure_erf
from wsolviz.ui import field_answer
from wsolviz.ui.address import Choices
from wsolviz.ui.controls import EXAMPLES
from wsolviz.ui.field_answer import ask_field

NET = "efficientnet_lite0"
PHOTO = EXAMPLES[0]


def ask(method="cam", row=NET, x=225, y=150, photo=PHOTO, **choices):
    shown = {"photo": photo, "choices": Choices(**choices).model_dump(mode="json")}
    return ask_field(shown, SimpleNamespace(row=row, method=method, x=x, y=y, token=7))


def fact(told, label):
    (value,) = [f["value"] for f in told["facts"] if f["label"] == label]
    return value


def test_cam_asks_about_the_class_and_other_maps_about_all_channels():
    assert ask("cam")["of"] == "CAM of Egyptian cat"
    assert ask("cam", class_choice="tabby, tabby cat")["of"] == "CAM of tabby, tabby cat"
    for method in ("pc1", "feature_norm", "cosine", "cam+0.5*feature_norm"):
        assert ask(method)["of"] == "all channels"


def test_an_answer_says_the_place_the_size_and_the_areas():
    told = ask("pc1", image_size=96)
    assert (told["row"], told["token"]) == (NET, 7)
    assert told["title"] == "Field of row 1, column 1"
    assert told["cell"] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert fact(told, "input") == "96×96 px"
    assert told["notes"] == []
    erf = measure_erf(wsolviz.load_backbone(NET), [PHOTO], 96)
    ((_, share),) = wsolviz.erf_area(erf.contribution, (0.3,), erf.centre)
    assert fact(told, "area 30%") == f"{100 * share:.1f} %"
    content = base64.b64decode(told["levels"].partition(",")[2])
    levels = np.asarray(Image.open(io.BytesIO(content)))
    assert levels.shape == (255, 384), "the viewer's display grid"
    scaled = 255 * log_scaled(erf.contribution)
    shown = np.asarray(Image.fromarray(levels).resize((96, 96), Image.Resampling.BOX))
    assert np.corrcoef(shown.ravel(), scaled.ravel())[0, 1] > 0.95


def test_of_several_scales_the_first_is_told():
    told = ask(scales=(96, 64), flip=True)
    assert fact(told, "input") == "96×96 px"
    assert "the first" in told["notes"][0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"row": "other"}, "other is no longer compared"),
        ({"x": 451}, "outside of the photo"),
        ({"photo": "/srv/uploads/gone.png"}, "gone.png is no longer on the server"),
        ({"class_choice": "unicorn"}, "There is no class 'unicorn'"),
    ],
)
def test_what_is_wrong_is_a_sentence_without_the_servers_folders(changes, said):
    told = ask(**changes)
    assert said in told["message"]
    assert "/srv" not in told["message"]
    assert told["token"] == 7


def test_without_a_photo_it_says_so_and_a_bug_becomes_a_sentence(monkeypatch):
    event = SimpleNamespace(row=NET, method="cam", x=0, y=0, token=1)
    assert "Explain a photo first" in ask_field(None, event)["message"]
    monkeypatch.setattr(field_answer, "answer_field", lambda *_: 1 / 0)
    assert "that is a bug" in ask()["message"]
