"""Runs of several networks: broken off and gone on with, with photos and weights that fail."""

import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import wsolviz
from tests.fields.conftest import BACKBONE, SIZE
from wsolviz.fields import run
from wsolviz.fields.networks import load_network, weights_digest
from wsolviz.fields.photos import choose_photos
from wsolviz.fields.run import measure_fields
from wsolviz.fields.step import Step
from wsolviz.fields.store import FieldStore
from wsolviz.progress import StoppedError

UNTRAINED = "slak_tiny"

# Kills itself while it tells of the sixth photo, of which a store keeps the first four.
KILLED_AT_SIX = """
import os, signal, sys
from pathlib import Path
from wsolviz.fields.photos import choose_photos
from wsolviz.fields.request import FieldRequest
from wsolviz.fields.run import measure_fields
from wsolviz.fields.store import FieldStore

def kill(step):
    if step.done == 6:
        os.kill(os.getpid(), signal.SIGKILL)

request = FieldRequest((sys.argv[1],), choose_photos(Path(sys.argv[2])), int(sys.argv[3]))
measure_fields(request, kill, FieldStore(Path(sys.argv[4])))
"""


def stop_at(done):
    def stop(step):
        if step.done == done:
            raise StoppedError

    return stop


def test_the_field_is_the_one_of_the_public_function(request_of, store):
    asked = request_of()
    (row,) = measure_fields(asked, store=store).rows
    paths = [photo.source for photo in asked.photos]
    expected = wsolviz.erf(wsolviz.load_backbone(BACKBONE), paths, SIZE)
    assert np.array_equal(row.erf.contribution, expected)
    assert [area.share for area in row.areas] == wsolviz.erf_area(expected)[:, 1].tolist()
    assert row.sha256 == wsolviz.load_backbone(BACKBONE).weights.sha256
    assert (row.erf.num_images, row.num_reused, row.seed) == (3, 0, None)


def test_a_field_is_measured_once(request_of, store, monkeypatch):
    (first,) = measure_fields(request_of(), store=store).rows
    monkeypatch.setattr(run, "field_sum", None)
    (again,) = measure_fields(request_of(), store=store).rows
    assert again.num_reused == 3
    assert again.seconds == first.seconds
    assert np.array_equal(first.erf.contribution, again.erf.contribution)


def test_a_killed_run_goes_on_and_gives_the_same_to_the_last_bit(request_of, photos, tmp_path):
    arguments = [BACKBONE, photos, str(SIZE), tmp_path / "killed"]
    command = [sys.executable, "-c", KILLED_AT_SIX, *map(str, arguments)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    asked = request_of(10)
    (unbroken,) = measure_fields(asked, store=FieldStore(tmp_path / "unbroken")).rows
    (resumed,) = measure_fields(asked, store=FieldStore(tmp_path / "killed")).rows
    assert resumed.num_reused == 4
    assert resumed.erf.num_images == 10
    assert resumed.erf.contribution.tobytes() == unbroken.erf.contribution.tobytes()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stopped_run_loses_nothing(request_of, store, batch_size):
    asked = request_of(7, batch_size=batch_size)
    with pytest.raises(StoppedError):
        measure_fields(asked, stop_at(3), store)
    (row,) = measure_fields(asked, store=store).rows
    assert row.num_reused == 3
    (unbroken,) = measure_fields(asked, store=FieldStore(store.folder / "other")).rows
    assert np.array_equal(row.erf.contribution, unbroken.erf.contribution)


def test_random_weights_follow_from_their_seed_and_leave_the_generator_alone(request_of, store):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    asked = request_of(2, weights=("trained", "random"))
    trained, first = measure_fields(asked, store=store).rows
    assert torch.equal(torch.rand(1), expected)
    elsewhere = FieldStore(store.folder / "elsewhere")
    _, again = measure_fields(asked, store=elsewhere).rows
    _, other = measure_fields(replace(asked, seed=1), store=store).rows
    assert again.num_reused == 0
    assert np.array_equal(first.erf.contribution, again.erf.contribution)
    assert first.sha256 == again.sha256
    assert len({trained.sha256, first.sha256, other.sha256}) == 3
    assert not np.array_equal(first.erf.contribution, other.erf.contribution)
    assert [row.label for row in (trained, first)] == [
        f"{BACKBONE}, trained",
        f"{BACKBONE}, random",
    ]


@pytest.mark.parametrize("name", [BACKBONE, "timm/mobilenetv3_small_050", "slak_tiny/13-11-9-7"])
def test_random_weights_are_torchs_own_whatever_another_thread_draws(request_of, name):
    asked = request_of(1, backbones=(name,))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(asked.seed)
        expected = weights_digest(wsolviz.load_backbone(name, None))
    over = threading.Event()

    def draw():
        while not over.is_set():
            torch.rand(1)

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        assert weights_digest(load_network(name, "random", asked)) == expected
    finally:
        over.set()
        drawing.join()


def test_what_a_network_packs_for_its_gradient_is_counted(request_of, store, monkeypatch):
    counted = []
    monkeypatch.setattr(run, "recount", lambda backbone: counted.append(backbone.num_bytes))
    measure_fields(request_of(1), store=store)
    assert counted == [wsolviz.load_backbone(BACKBONE).num_bytes]


def test_trained_weights_that_are_not_here_are_told_and_random_ones_go_on(
    request_of, store, monkeypatch
):
    monkeypatch.setenv("WSOLVIZ_WEIGHTS", str(store.folder))
    asked = request_of(1, backbones=(UNTRAINED, BACKBONE), weights=("trained", "random"))
    found = measure_fields(asked, store=store)
    assert [row.label for row in found.rows] == [
        f"{UNTRAINED}, random",
        f"{BACKBONE}, trained",
        f"{BACKBONE}, random",
    ]
    (missing,) = found.missing
    assert missing.label == f"{UNTRAINED}, trained"
    assert f"The weights of {UNTRAINED}" in missing.failure
    assert str(store.folder) in missing.failure
    assert str(store.folder) not in missing.notice


def test_broken_photos_are_named_and_leave_the_mean_alone(request_of, photos, store, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    whole = choose_photos(folder, 4)
    for name in (whole[0].name, whole[2].name):
        (folder / name).write_bytes(b"no photo")
    (row,) = measure_fields(request_of(photos=choose_photos(folder, 4)), store=store).rows
    assert [photo.name for photo in row.broken] == [whole[0].name, whole[2].name]
    assert "is not an image" in row.broken[0].reason
    kept = [whole[1].source, whole[3].source]
    expected = wsolviz.erf(wsolviz.load_backbone(BACKBONE), kept, SIZE)
    assert np.array_equal(row.erf.contribution, expected)
    Image.new("RGB", (50, 50), "red").save(folder / whole[0].name)  # mended
    (row,) = measure_fields(request_of(photos=choose_photos(folder, 4)), store=store).rows
    assert [photo.name for photo in row.broken] == [whole[2].name]


def test_nothing_but_broken_photos_is_a_row_that_is_missing(request_of, store, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    found = measure_fields(request_of(photos=choose_photos(tmp_path)), store=store)
    assert not found.rows
    assert "No photo could be read; the first, a.jpg" in found.missing[0].failure


def test_photos_without_a_finite_gradient_are_counted(request_of, store, monkeypatch):
    measured = run.field_sum
    seen = []

    def second_is_nan(backbone, images, *rest):
        seen.append(images)
        found = measured(backbone, images, *rest)
        if len(seen) != 2:
            return found
        return replace(found, total=0 * found.total, num_images=0, num_skipped=1)

    monkeypatch.setattr(run, "field_sum", second_is_nan)
    (row,) = measure_fields(request_of(), store=store).rows
    assert (row.erf.num_images, row.erf.num_skipped, row.broken) == (2, 1, ())


def test_position_and_class_are_asked_for_and_told(request_of, store):
    asked = request_of(1, size=96, position=(0, 2), class_choice="tabby cat")
    (row,) = measure_fields(asked, store=store).rows
    assert (row.erf.position, row.erf.grid) == ((0, 2), (3, 3))
    assert row.erf.class_index == 281
    assert row.class_name == "tabby, tabby cat"
    assert row.areas[2].side == wsolviz.erf_area(row.erf.contribution, [0.5], (16, 80))[0, 0]
    outside = measure_fields(replace(asked, position=(3, 0)), store=store)
    assert "3×3 feature map" in outside.missing[0].failure


def test_steps_go_from_nothing_to_all(request_of, store):
    steps = []
    measure_fields(request_of(2, weights=("trained", "random")), steps.append, store)
    assert [(step.network, step.done, step.loading) for step in steps] == [
        (f"{BACKBONE}, {kind}", done, loading)
        for kind in ("trained", "random")
        for done, loading in ((0, True), (0, False), (1, False), (2, False))
    ]
    assert [step.share for step in steps] == [0, 0, 0.25, 0.5, 0.5, 0.5, 0.75, 1]
    assert steps[0].text.endswith("loading")
    assert steps[1].speed is None
    assert steps[2].speed > 0


def test_steps_go_on_from_what_is_kept(request_of, store):
    asked = request_of(4)
    with pytest.raises(StoppedError):
        measure_fields(asked, stop_at(3), store)
    for kept in (3, 4):
        steps = []
        measure_fields(asked, steps.append, store)
        assert [step.done for step in steps] == [0, *range(kept, 5)]
        assert [step.loading for step in steps] == [True] + [False] * (5 - kept)
        assert steps[-1].share == 1


@pytest.mark.parametrize(
    ("speed", "told"),
    [
        (None, "net: photo 2 of 4"),
        (0.0213, "net: photo 2 of 4, 0.021 photos/s"),
        (3.14, "net: photo 2 of 4, 3.1 photos/s"),
        (99.6, "net: photo 2 of 4, 100 photos/s"),
        (2431.7, "net: photo 2 of 4, 2400 photos/s"),  # photos that cannot be read take no time
        (1234567, "net: photo 2 of 4, 1200000 photos/s"),
    ],
)
def test_a_speed_is_written_without_a_power_of_ten(speed, told):
    assert Step("net", 0, 1, done=2, num_photos=4, speed=speed).text == told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbones": ()}, "at least one backbone"),
        ({"backbones": ("efficientnet_lite9",)}, "Did you mean"),
        ({"backbones": ("timm/resnet5O",)}, "Did you mean resnet50"),
        ({"photos": ()}, "one photo"),
        ({"size": 16}, "size is 16"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"output_stride": 7}, "output_stride is one of"),
    ],
)
def test_wrong_requests_are_refused_at_once(request_of, options, said):
    with pytest.raises(ValueError, match=said):
        request_of(**options)
