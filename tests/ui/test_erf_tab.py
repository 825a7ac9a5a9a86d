"""The ERF tab's question and what it shows, without a browser."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fields.conftest import bell, row_of
from wsolviz.backends.zoo import FOLDER_VARIABLE
from wsolviz.evaluation.dataset import open_dataset
from wsolviz.fields.figures import MapLook
from wsolviz.fields.localization import Localization
from wsolviz.fields.photos import EXAMPLES, choose_of_set, choose_photos
from wsolviz.fields.request import BrokenPhoto, FieldRequest, Fields, MissingRow
from wsolviz.fields.run import measure_fields
from wsolviz.ui import erf_localization
from wsolviz.ui.data_roots import datasets
from wsolviz.ui.erf_localization import draw_scatter, known_localizations, offer_data
from wsolviz.ui.erf_question import (
    BUNDLED,
    OWN,
    note_on_photos,
    photo_sources,
    read_field_question,
)
from wsolviz.ui.erf_results import head_html, maps_html, numbers_html
from wsolviz.ui.erf_tab import describe

NET = "efficientnet_lite0"
USUAL = {
    "backbones": [NET],
    "weights": ["trained"],
    "size": 64,
    "source": BUNDLED,
    "sent": None,
    "number": 2,
    "seed": 0,
}


def ask(**changes):
    return read_field_question(**{**USUAL, **changes})


@pytest.fixture
def allowed(monkeypatch, crops):
    monkeypatch.setitem(datasets, "crops", crops)
    return crops


def test_the_controls_become_a_request():
    asked = ask(weights=["trained", "random"], number=3)
    assert asked == FieldRequest(
        (NET,), choose_photos(EXAMPLES, 3), size=64, weights=("trained", "random")
    )


def test_photos_of_a_data_set_are_some_of_its_split_and_always_the_same(allowed):
    assert photo_sources()[2:] == [("crops/test", "crops/test")]
    asked = ask(source="crops/test", number=5)
    names = [photo.name for photo in asked.photos]
    known = open_dataset(allowed, "test").metadata.image_ids
    assert len(set(names)) == 5 <= len(known)
    assert set(names) <= set(known)
    assert [p.name for p in ask(source="crops/test", number=3).photos] == names[:3]
    assert [p.name for p in ask(source="crops/test", number=5, seed=1).photos] != names
    (row,) = measure_fields(asked).rows
    folder = open_dataset(allowed, "test").images.folders[0]
    by_path = replace(
        asked, photos=tuple(replace(photo, source=folder / photo.name) for photo in asked.photos)
    )
    expected = measure_fields(by_path).rows[0].erf.contribution
    np.testing.assert_array_equal(row.erf.contribution, expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbones": []}, "at least one backbone"),
        ({"weights": []}, "trained or random"),
        ({"backbones": ["a", "b", "c", "d", "e"]}, "At most 4"),
        ({"backbones": ["file//etc/passwd"]}, "Files of this server cannot be named"),
        ({"backbones": ["efficientnet_lite9"]}, "Did you mean"),
        ({"size": None}, "Input size: write"),
        ({"size": 9}, "from 32 to 1024"),
        ({"size": 2048}, "from 32 to 1024"),
        ({"size": 64.5}, "64.5 is not a whole number"),
        ({"number": 0}, "Photos: write a whole number from 1 to 50"),
        ({"number": 51}, "from 1 to 50"),
        ({"seed": -1}, "Choice of photos"),
        ({"source": OWN}, "Send at least one photo"),
        ({"source": "/etc"}, "There is no data set"),
        ({"source": "crops/../test"}, "There is no data set"),
        ({"source": "crops/.."}, "There is no data set"),
    ],
)
def test_bad_input_is_a_sentence(allowed, changes, said):
    with pytest.raises(ValueError, match=said):
        ask(**changes)


def test_a_photo_that_cannot_be_read_is_told_without_the_servers_folder(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    paths = [str(broken), str(tmp_path / "gone.png"), str(EXAMPLES / "coffee.png")]
    (row,) = measure_fields(ask(source=OWN, sent=paths)).rows
    assert row.erf.num_images == 1
    assert [photo.name for photo in row.broken] == ["broken.png", "gone.png"]
    assert not any(str(tmp_path) in photo.reason for photo in row.broken)


@pytest.mark.parametrize(
    ("source", "number", "said"),
    [
        (BUNDLED, 4, ""),
        (BUNDLED, 50, "Up to 50 photos are measured; the set of examples holds 4,"),
        ("crops/test", 49, "Up to 49 photos are measured; crops/test holds 12,"),
        (OWN, 50, ""),  # the number is of the other sources
    ],
)
def test_fewer_photos_than_were_asked_for_are_told(allowed, source, number, said):
    asked = ask(source=source, number=number, sent=[str(EXAMPLES / "coffee.png")])
    note = note_on_photos(asked, source, number)
    assert note.startswith(said)
    assert bool(note) == bool(said)
    fields = Fields(asked, (row_of(bell()),))
    assert f"3 photos (1 skipped) in 2.5 s.{'<br>' + note if note else ''}</p>" in describe(
        fields, 2.5, note
    )


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        ([(3, 0), (3, 0)], "3 photos"),
        ([(1, 1), (1, 1)], "1 photo (1 skipped)"),
        ([(3, 0), (1, 2)], "1 to 3 photos (up to 2 skipped)"),  # a gradient is not finite
    ],
)
def test_heading_and_status_count_the_photos_of_the_table(request_of, measured, told):
    rows = []
    for num_images, num_skipped in measured:
        row = row_of(bell())
        erf = replace(row.erf, num_images=num_images, num_skipped=num_skipped)
        rows.append(replace(row, erf=erf))
    fields = Fields(request_of(), tuple(rows))
    assert fields.title == f"Effective receptive fields at 64×64, {told}"
    assert f"2 fields of {told} in 1.0 s." in describe(fields, 1, "")


def test_an_absent_backbone_gets_its_line_and_stops_nothing_else(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    fields = measure_fields(ask(backbones=["slak_tiny", NET])).for_visitors()
    assert [row.label for row in fields.rows] == [f"{NET}, trained"]
    (missing,) = fields.missing
    assert missing.failure == missing.notice
    assert str(tmp_path) not in head_html(fields)
    assert "slak_tiny, trained: " in head_html(fields)


def test_visitors_learn_no_folder_of_the_server(request_of):
    row = replace(row_of(bell()), source="/srv/weights/net.pth")
    missing = MissingRow("gone", "trained", "no /srv/weights/gone.pth", "not on this server")
    told = Fields(request_of(), (row,), (missing,)).for_visitors()
    assert told.rows[0].source == "net.pth"
    assert told.missing[0].failure == "not on this server"


@pytest.fixture
def request_of():
    return lambda: FieldRequest((NET,), choose_photos(EXAMPLES, 1), size=64)


def test_what_is_shown_tells_the_size_and_escapes_names(request_of):
    rows = (
        row_of(bell(), "<b>", broken=(BrokenPhoto("<i>.jpg", "is <i>"),)),
        row_of(bell(64, 3, 50)),
    )
    fields = Fields(request_of(), rows)
    shown = head_html(fields) + maps_html(fields, MapLook()) + numbers_html(fields)
    assert shown.count("64×64: ") >= 2
    assert "Effective receptive fields at 64×64" in shown
    assert "hold for this input size only" in shown
    assert "<b>" not in shown
    assert "<i>.jpg" not in shown
    assert "1.71" in maps_html(fields, MapLook()), "log₁₀(50 + 1), the scale of both maps"
    assert "each map’s maximum" in maps_html(fields, MapLook(own_maximum=True))


def test_a_photo_of_a_set_needs_no_file_of_its_own(crops):
    (photo,) = choose_of_set(open_dataset(crops, "test"), 1)
    assert not isinstance(photo.source, Path)
    assert photo.read().size == open_dataset(crops, "test").images.read(photo.name).size
    assert photo.digest.startswith("pixels ")


def leave_results(folder, data):
    """What a run of evaluate leaves that measured one network."""
    folder.mkdir(parents=True)
    settings = {"data": data, "backbone": NET, "weights_sha256": None}
    methods = {"cam": {"PxAP": {"value": 40.0, "interval": [38.0, 42.0]}}}
    (folder / "results.json").write_text(json.dumps({"settings": settings, "methods": methods}))


def test_only_allowed_data_is_offered_whatever_other_servers_measured(
    allowed, monkeypatch, tmp_path
):
    """The folder of runs is one for the whole computer."""
    monkeypatch.setattr(erf_localization, "runs_folder", lambda: tmp_path)
    for i, data in enumerate(["birds/test", "crops/val", "crops"]):
        leave_results(tmp_path / str(i), data)
    assert known_localizations() == []
    assert offer_data().choices == [("crops/test", "crops/test")]
    leave_results(tmp_path / "mine", "crops/test")
    assert [told.data for told in known_localizations()] == ["crops/test"]
    assert offer_data().value == "crops/test"
    monkeypatch.delitem(datasets, "crops")
    assert known_localizations() == []
    assert offer_data().choices == []


def test_fields_against_localization_say_the_methods_titles(monkeypatch):
    found = [
        Localization("set/test", NET, None, method, "MaxBoxAccV2", 50.0, (45.0, 54.0))
        for method in ("cam", "feature_norm")
    ]
    monkeypatch.setattr(erf_localization, "known_localizations", lambda: found)
    kept = Fields(ask(), (row_of(bell(), NET),))
    plot, told = draw_scatter(kept, "set/test", 0.5)
    names = [curve["name"] for curve in json.loads(plot.value["plot"])["data"]]
    assert names == [f"{NET}, CAM", f"{NET}, ‖F‖"]
    assert "CAM: no correlation is given for 1 backbone" in told
    assert "‖F‖: no correlation" in told
    assert "feature_norm" not in told
