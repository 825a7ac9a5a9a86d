"""The command line, as a process of its own where the exit status counts."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wsolviz
from wsolviz.backends.zoo import ZOO
from wsolviz.cli import main, spread_lists
from wsolviz.commands.explain import output_folders
from wsolviz.ui.controls import EXAMPLES

ROOT = Path(wsolviz.__file__).parents[1]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; gives its exit status and what it said."""

    def run_here(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsolviz", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().err

    return run_here


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "cats").mkdir()
    Image.open(EXAMPLES[0]).save(folder / "cats" / "chelsea.png")
    Image.open(EXAMPLES[1]).resize((300, 200)).save(folder / "coffee.jpg")
    return folder


def test_a_folder_becomes_a_folder_of_results(photos, tmp_path):
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "wsolviz", "explain", photos, "--out", out),
        *("--backbone", "efficientnet_lite0", "efficientnet_lite1"),
        *("--method", "cam,pc1", "pc_rgb", "--threshold", "0.4"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 photos" in done.stderr
    result = out / "cats" / "chelsea"
    assert {p.name for p in result.iterdir()} == {
        "grid.png", "maps.npz", "manifest.json", "report.html",
        *(
            f"efficientnet_lite{i}_{method}.png"
            for i in (0, 1) for method in ("cam", "pc1", "pc_rgb")
        ),
        *(f"efficientnet_lite{i}_{method}.npy" for i in (0, 1) for method in ("cam", "pc1")),
    }  # fmt: skip
    backbone = wsolviz.load_backbone("efficientnet_lite1")
    (cam,) = wsolviz.explain(photos / "cats" / "chelsea.png", backbone, ["cam"])
    maps = np.load(result / "maps.npz")
    np.testing.assert_allclose(maps["efficientnet_lite1_cam"], cam.heatmap, rtol=1e-4, atol=1e-4)
    manifest = json.loads((result / "manifest.json").read_text())
    cell = manifest["rows"][1]["cells"][0]
    assert cell["boxes"] == cam.boxes_at(0.4).tolist()
    assert manifest["rows"][1]["weights"]["sha256"] == backbone.weights.sha256
    assert (out / "coffee" / "grid.png").exists()
    assert not (out / "coffee.npy").exists()


def test_one_map_a_photo_lies_in_the_photos_own_layout_as_the_papers_script_leaves_it(
    run, photos, tmp_path
):
    out = tmp_path / "out"
    status, said = run(
        "explain", photos, "--out", out, "--method", "pc1_paper", "--backbone", "efficientnet_lite0"
    )
    assert status == 0, said
    backbone = wsolviz.load_backbone("efficientnet_lite0")
    for photo, name in (("cats/chelsea.png", "cats/chelsea"), ("coffee.jpg", "coffee")):
        (expected,) = wsolviz.explain(photos / photo, backbone, ["pc1_paper"])
        given = np.load(out / f"{name}.npy")
        np.testing.assert_allclose(
            given, wsolviz.scoremap(expected.heatmap, (224, 224)), rtol=0, atol=1e-4
        )
        overlay = np.asarray(Image.open(out / f"{name}.png"))
        cell = Image.open(out / name / "efficientnet_lite0_pc1_paper.png")
        assert np.array_equal(overlay, np.asarray(cell))


def test_results_of_a_weights_file_name_no_folder_of_this_computer(run, photos, tmp_path):
    entry = next(entry for entry in ZOO.values() if entry.is_bundled)
    path = tmp_path / "private_place" / "mine.safetensors"
    path.parent.mkdir()
    path.write_bytes(entry.path.read_bytes())
    out = tmp_path / "out"
    command = ("explain", photos / "coffee.jpg", "--out", out, "--method", "cam")
    status, said = run(*command, "--backbone", f"file/{path}")
    assert status == 0, said
    files = [file for file in out.rglob("*") if file.is_file()]
    assert {"file-mine.safetensors_cam.npy", "file-mine.safetensors_cam.png"} <= {
        file.name for file in files
    }
    for file in files:
        assert b"private_place" not in file.read_bytes(), file.name
        assert "private_place" not in str(file.relative_to(out))
    row = json.loads((out / "coffee" / "manifest.json").read_text())["rows"][0]
    assert row["backbone"] == "file/mine.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert row["weights"] == {"source": "mine.safetensors", "sha256": digest}
    twin = tmp_path / "other_place" / path.name
    status, said = run(*command, "--backbone", f"file/{path}", "--backbone", f"file/{twin}")
    assert status == 2
    assert "Two different files are named file/mine.safetensors; rename one of them" in said


def test_nothing_is_overwritten_without_force(run, photos, tmp_path):
    out = tmp_path / "out"
    (out / "coffee").mkdir(parents=True)
    (out / "coffee" / "grid.png").write_text("mine")
    status, said = run("explain", photos / "coffee.jpg", "--out", out, "--method", "cam")
    assert status == 2
    assert "--force" in said
    assert (out / "coffee" / "grid.png").read_text() == "mine"
    status, said = run("explain", photos / "coffee.jpg", "--out", out, "--method", "cam", "--force")
    assert status == 0, said
    assert Image.open(out / "coffee" / "grid.png").width > 384


def test_a_broken_photo_is_named_and_the_others_are_explained(run, photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("no photo")
    out = tmp_path / "out"
    status, said = run("explain", broken, photos / "coffee.jpg", "--out", out, "--method", "cam")
    assert status == 1
    assert "broken.jpg is not an image that can be read" in said
    assert "1 of 2 photos" in said
    assert (out / "coffee" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.jpg", "--out", "x"], "There is no photo, folder, method or backbone absent.jpg."),
        ([EXAMPLES[0], "--out", "x", "--method", "camm"], "Did you mean 'cam'?"),
        ([EXAMPLES[0], "--out", "x", "--backbone", "timm/resnet5O"], "Did you mean resnet50"),
        ([EXAMPLES[0], "--out", "x", "--threshold", "1.5"], "between 0 and 1"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, arguments, said, tmp_path):
    status, told = run("explain", *[tmp_path / "x" if a == "x" else a for a in arguments])
    assert status == 2
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("port", "bound"), [(0, "1"), (65536, "65535"), (99999, "65535")])
def test_a_port_that_no_server_can_have_is_one_line_and_status_2(run, port, bound, monkeypatch):
    monkeypatch.setattr("wsolviz.ui.app.launch", None)  # it would not be called
    status, told = run("app", "--port", port)
    assert status == 2
    assert "--port" in told
    assert bound in told
    assert len(told.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [("explain", "absent.jpg"), ("erf", "--images", "absent"), ("evaluate", "--data", "absent")],
)
def test_a_file_for_the_results_is_refused_before_anything_is_read(run, arguments, tmp_path):
    out = tmp_path / "results"
    out.write_text("mine")
    status, told = run(*arguments, "--out", out)
    assert status == 2
    assert f"--out {out} is a file; give a folder for the results." in told
    assert len(told.strip().splitlines()) == 1
    assert out.read_text() == "mine"


def test_lists_may_be_spread_out_or_joined():
    spread = spread_lists(["a.jpg", "--method", "cam", "pc1", "b.jpg", "--backbone", "timm/x,y"])
    assert spread == [
        *("a.jpg", "--method", "cam", "--method", "pc1", "b.jpg"),
        *("--backbone", "timm/x", "--backbone", "y"),
    ]
    assert spread_lists(["--method", "--out", "x"]) == ["--method", "--out", "x"]


def test_an_overlay_never_lies_over_a_photo(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a\.png is one of the photos; choose another --out"):
        output_folders([tmp_path], tmp_path)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert output_folders([tmp_path], tmp_path) == {tmp_path / "a.jpg": tmp_path / "a"}


def test_results_never_share_a_folder(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        (tmp_path / name).touch()
    folders = output_folders([tmp_path], Path("out"))
    assert sorted(map(str, folders.values())) == ["out/a.jpg", "out/a.png", "out/b"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.jpg").touch()
    with pytest.raises(ValueError, match="the same folder"):
        output_folders([tmp_path / "b.jpg", tmp_path / "sub" / "b.jpg"], Path("out"))
