"""Comparisons: what fails stays in its place."""

import json
import os

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from wsolviz import methods
from wsolviz.backends.efficientnet_lite import VARIANTS
from wsolviz.compare import CompareOptions, CompareRequest, PanelFailure, compare
from wsolviz.explain import _bytes
from wsolviz.export import manifest, write_zip
from wsolviz.progress import StoppedError, report
from wsolviz.render import Look
from wsolviz.types import Explanation
from wsolviz.ui.controls import EXAMPLES
from wsolviz.ui.viewer import viewer_payload


@pytest.fixture
def registered(monkeypatch):
    """METHODS with what a test adds to them."""
    monkeypatch.setattr(methods.METHODS, "_entries", dict(methods.METHODS._entries))


def test_a_panel_that_fails_ends_no_other(registered):
    @methods.method("broken", "Broken")
    def broken(features, class_index=None):
        """Always fails."""
        raise RuntimeError("a bug")

    comparison = compare(EXAMPLES[0], CompareRequest(methods=("cam", "broken", "pc1")))
    cam, failure, pc1 = comparison.rows[0].cells
    assert isinstance(cam, Explanation)
    assert isinstance(pc1, Explanation)
    assert isinstance(failure, PanelFailure)
    assert "Broken failed: RuntimeError: a bug" in failure.message
    assert "a bug" not in failure.notice.replace("that is a bug", "")
    assert "Broken failed (RuntimeError)" in failure.notice


def test_visitors_learn_no_path_and_get_no_programmers_advice(monkeypatch):
    monkeypatch.setattr("wsolviz.backends.timm_models._require_network", _no_network)
    request = CompareRequest(("timm/resnet18.a1_in1k", "timm/no_such_net"), ("cam",))
    comparison = compare(EXAMPLES[0], request)
    weights, name = comparison.rows
    assert "weights=FILE" in weights.failure
    assert "timm.list_models" in name.failure
    told = json.dumps([manifest(comparison, Look()), viewer_payload(comparison, Look())])
    for text in (told, *comparison.notices):
        assert "weights=" not in text
        assert "file/PATH" not in text
        assert "list_models" not in text
        assert constants.HF_HUB_CACHE not in text
    assert "not on this server" in comparison.notices[0]
    assert "no model 'no_such_net'" in comparison.notices[1]


def _no_network():
    raise OSError("no network")


def test_a_new_method_is_one_decorated_function(registered, tmp_path):
    @methods.method("entropy", "Entropy")
    def entropy(features, class_index=None):
        """Entropy of the features at every position."""
        shares = features.feature_map.clamp_min(0).add(1e-6)
        shares = shares / shares.sum(dim=1, keepdim=True)
        heatmap = -(shares * shares.log()).sum(dim=1)
        return heatmap, {"largest": heatmap.amax(dim=(1, 2))}

    comparison = compare(EXAMPLES[0], CompareRequest(methods=("entropy",)))
    cell = comparison.rows[0].cells[0]
    assert cell.numbers["largest"] == pytest.approx(float(cell.heatmap.max()))
    assert "largest" in str(viewer_payload(comparison, Look())["rows"][0]["cells"][0]["facts"])
    assert write_zip(comparison, Look(), tmp_path / "out.zip").stat().st_size > 10_000


def test_too_little_memory_is_a_sentence(registered):
    @methods.method("hungry", "Hungry")
    def hungry(features, class_index=None):
        """Asks for more memory than there is."""
        raise torch.OutOfMemoryError("CUDA out of memory")

    comparison = compare(EXAMPLES[0], CompareRequest(methods=("hungry",)))
    assert "not enough memory" in comparison.rows[0].cells[0].message


def test_progress_rises_and_may_stop_the_work():
    told = []
    compare(EXAMPLES[0], CompareRequest(methods=("cam", "pc1")), lambda *step: told.append(step))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1

    def stop(share, text):
        raise StoppedError(text)

    with pytest.raises(StoppedError):
        compare(EXAMPLES[0], CompareRequest(), stop)


def test_progress_weighs_steps_by_what_they_cost(registered):
    @methods.method("costly", "Costly", cost="slow")
    def costly(features, class_index=None):
        """Half of it is told."""
        report(0.5, "half")
        return features.feature_map.mean(dim=1)

    told = {}
    photo = Image.effect_noise((50, 40), 80).convert("RGB")
    request = CompareRequest(("efficientnet_lite0",), ("cam", "pc1", "costly"))
    compare(photo, request, lambda share, text: told.setdefault(text, share))
    assert told["efficientnet_lite0: Costly"] < 0.1
    assert told["efficientnet_lite0: Costly: half"] == pytest.approx(0.5, abs=0.05)


def test_the_same_choices_compute_no_panel_twice(registered):
    runs = []

    @methods.method("counted", "Counted", cost="slow")
    def counted(features, class_index=None):
        """How often it was asked for."""
        runs.append(class_index)
        return features.feature_map.mean(dim=1)

    photo = Image.effect_noise((60, 40), 80).convert("RGB")
    request = CompareRequest(("efficientnet_lite0",), ("counted", "cam"), class_choice=5)
    first = compare(photo, request).rows[0].cells[0]
    expected = first.heatmap.copy()
    first.heatmap[:] = 0
    again = compare(photo, request).rows[0].cells[0]
    np.testing.assert_array_equal(again.heatmap, expected)
    assert again.milliseconds == first.milliseconds
    assert runs == [5]
    compare(photo, CompareRequest(("efficientnet_lite0",), ("counted",), class_choice=6))
    assert runs == [5, 6]


def test_kept_panels_count_as_bytes():
    inspection = compare(EXAMPLES[0], CompareRequest(methods=("cam",))).rows[0].inspection
    before = _bytes(inspection)
    raw = inspection.compute("hirescam", 7)
    assert _bytes(inspection) == before + raw.results[0].nbytes


@pytest.mark.parametrize("size", [0, -5, 7, 5000])
def test_input_sizes_are_bounded_for_everyone(size):
    with pytest.raises(ValueError, match="between 32 and 2048"):
        CompareOptions(image_size=size)


def test_at_most_four_backbones():
    with pytest.raises(ValueError, match="at most 4"):
        CompareRequest(backbones=tuple(f"efficientnet_lite{i}" for i in (*VARIANTS, 3, 4)))


def test_the_manifest_says_how_to_make_the_maps_again():
    request = CompareRequest(
        methods=("cam",), class_choice="tabby", options=CompareOptions(output_stride=16)
    )
    told = manifest(compare(EXAMPLES[0], request), Look(cam_threshold=0.4))
    assert told["request"]["options"]["output_stride"] == 16
    assert told["request"]["class_choice"] == "tabby"
    assert told["rows"][0]["class"]["name"] == "tabby, tabby cat"
    assert told["versions"]["torch"] == torch.__version__.split("+")[0]
    assert told["rows"][0]["cells"][0]["cam_threshold"] == 0.4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_workers_of_its_own():
    from wsolviz.panel_workers import workers

    list(workers.pool.map(abs, range(4)))
    child = os.fork()
    if child == 0:
        os._exit(0 if list(workers.pool.map(abs, [-3])) == [3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
