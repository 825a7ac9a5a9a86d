"""The endpoints, called as a user of gradio_client calls them."""

import io
import json
from zipfile import ZipFile

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import wsolviz
from wsolviz.defaults import DEFAULTS
from wsolviz.ui.controls import EXAMPLES


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


def test_endpoints_are_named_and_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/explain", "/methods", "/backbones"}
    names = [parameter["parameter_name"] for parameter in endpoints["/explain"]["parameters"]]
    assert names == ["photo", "choices"]


def test_methods_and_backbones_are_the_registries(client):
    methods = client.predict(api_name="/methods")
    assert list(methods) == [*wsolviz.METHODS, *wsolviz.PICTURES]
    assert all(methods.values())
    assert "efficientnet_lite0" in client.predict(api_name="/backbones")


def test_explain_gives_what_the_library_gives(client):
    choices = {"methods": ["cam", "cosine"], "class_choice": "cup", "threshold": 0.4}
    choices["backbones"] = ["efficientnet_lite0"]
    manifest, archive = client.predict(handle_file(EXAMPLES[1]), choices, api_name="/explain")
    backbone = wsolviz.load_backbone("efficientnet_lite0")
    expected = wsolviz.explain(EXAMPLES[1], backbone, ["cam", "cosine"], "cup")
    (row,) = manifest["rows"]
    assert row["class"]["name"] == "cup"
    assert [c["boxes"] for c in row["cells"]] == [e.boxes_at(0.4).tolist() for e in expected]
    with ZipFile(archive) as opened:
        maps = np.load(io.BytesIO(opened.read("maps.npz")))
        np.testing.assert_allclose(maps["efficientnet_lite0_cam"], expected[0].heatmap, rtol=1e-5)
        assert json.loads(opened.read("manifest.json"))["rows"] == manifest["rows"]
        assert opened.read("report.html").startswith(b"<!doctype html>")


def test_a_class_may_be_a_number_and_doubles_are_taken_once(client):
    choices = {"methods": ["cam", "cam"], "class_choice": 281}
    manifest, _ = client.predict(handle_file(EXAMPLES[0]), choices, api_name="/explain")
    assert [row["backbone"] for row in manifest["rows"]] == list(DEFAULTS.backbones)
    for row in manifest["rows"]:
        assert row["class"]["name"] == "tabby, tabby cat"
        assert [cell["method"] for cell in row["cells"]] == ["cam"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"methods": ["camm"]}, "Did you mean 'cam'"),
        ({"class_choice": "no such class"}, "There is no class"),
        ({"threshold": 2}, "threshold"),
        ({"treshold": 0.5}, "treshold"),
        ({"class_choice": True}, "class_choice"),
        ({"backbones": ["a", "b"]}, "There is no backbone 'a'.*There is no backbone 'b'"),
    ],
)
def test_what_is_wrong_is_said(client, choices, said):
    with pytest.raises(AppError, match=said):
        client.predict(handle_file(EXAMPLES[0]), choices, api_name="/explain")


def test_a_file_that_is_no_photo_is_refused_and_the_server_goes_on(client, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a photo")
    with pytest.raises(AppError, match="not an image that can be read"):
        client.predict(handle_file(broken), {}, api_name="/explain")
    large = tmp_path / "large.png"
    Image.new("1", (8000, 7000)).save(large)
    with pytest.raises(AppError, match="50 megapixels"):
        client.predict(handle_file(large), {}, api_name="/explain")
    manifest, _ = client.predict(handle_file(EXAMPLES[0]), {}, api_name="/explain")
    assert manifest["rows"][0]["class"]["name"] == "Egyptian cat"
