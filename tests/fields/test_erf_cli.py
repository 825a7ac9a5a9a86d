"""python -m wsolviz erf, as a process of its own where it is killed."""

import json
import sys

import numpy as np
import pytest

import wsolviz
from tests.fields.conftest import BACKBONE, SIZE
from wsolviz.cli import main
from wsolviz.fields.photos import choose_photos


@pytest.fixture
def erf(monkeypatch, capsys, tmp_path):
    """Run the command in this process, with a store of its own; exit status and what it said."""
    monkeypatch.setenv("WSOLVIZ_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsolviz", "erf", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().err

    return run


def test_a_folder_of_photos_becomes_fields(erf, photos, tmp_path):
    out = tmp_path / "out"
    options = ["--images", photos, "--num-images", 3, "--size", SIZE, "--batch-size", 2]
    status, said = erf("--backbone", BACKBONE, *options, "--random-init", "too", "--out", out)
    assert status == 0, said
    assert f"Effective receptive fields at {SIZE}×{SIZE}, 3 photos" in said
    assert "hold for this input size only" in said
    told = json.loads((out / "erf.json").read_text(encoding="utf-8"))
    assert [row["weights"] for row in told["rows"]] == ["trained", "random"]
    alone = tmp_path / "alone"
    status, said = erf("--backbone", BACKBONE, *options, "--random-init", "only", "--out", alone)
    assert status == 0, said
    rows = json.loads((alone / "erf.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["weights"], row["sha256"]) for row in rows] == [
        ("random", told["rows"][1]["sha256"])
    ]
    expected = wsolviz.erf(
        wsolviz.load_backbone(BACKBONE),
        [photo.source for photo in choose_photos(photos, 3)],
        SIZE,
        batch_size=2,
    )
    kept = np.load(out / f"{BACKBONE}_trained_{SIZE}.npz")["contribution"]
    np.testing.assert_allclose(kept, expected, rtol=1e-12)
    assert list((tmp_path / "cache" / "erf").iterdir())


def test_results_are_kept_from_being_overwritten(erf, photos, tmp_path):
    out = tmp_path / "out"
    command = ["--images", photos, "--num-images", 1, "--size", SIZE, "--out", out]
    assert erf(*command)[0] == 0
    before = (out / "erf.json").read_bytes()
    status, said = erf(*command)
    assert status == 2
    assert "--force" in said
    assert (out / "erf.json").read_bytes() == before
    status, said = erf(*command, "--force", "--position", "0,1", "--scale", "linear", "--own-scale")
    assert status == 0, said
    row = json.loads((out / "erf.json").read_text())["rows"][0]
    assert (row["position_row"], row["position_column"]) == (0, 1)


def test_photos_and_weights_that_are_missing_are_told(erf, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("WSOLVIZ_WEIGHTS", str(tmp_path))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "whole.png").write_bytes((photos / "5.png").read_bytes())
    (folder / "broken.png").write_bytes(b"no photo")
    command = ["--images", folder, "--size", SIZE, "--class", "tabby cat"]
    status, said = erf("--backbone", BACKBONE, "slak_tiny", *command, "--out", tmp_path / "out")
    assert status == 1
    assert "slak_tiny, trained: The weights of slak_tiny" in said
    assert f"Up to 50 photos are measured; {folder} holds 2, and all are taken." in said
    assert f"at {SIZE}×{SIZE}, 1 photo (1 skipped), class tabby cat" in said
    assert "skipped broken.png: broken.png is not an image" in said
    row = json.loads((tmp_path / "out" / "erf.json").read_text())["rows"][0]
    assert (row["class_name"], row["num_broken"]) == ("tabby, tabby cat", 1)
    status, said = erf("--backbone", "slak_tiny", *command, "--out", tmp_path / "nothing")
    assert status == 1
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--images", "absent"], "There is no folder absent"),
        (["--size", "9"], "size is 9"),
        (["--position", "3"], "--position 3,5"),
        (["--backbone", "efficientnet_lite9"], "Did you mean"),
        (["--num-images", "0"], "at least 1"),
        (["--output-stride", "7"], "output_stride is one of"),
    ],
)
def test_bad_input_is_one_line_and_status_2(erf, arguments, said, tmp_path):
    status, told = erf(*arguments, "--out", tmp_path / "out")
    assert status == 2
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
