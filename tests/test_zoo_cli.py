"""python -m wsolviz zoo, as people use it."""

import hashlib
import shlex
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from typer.main import get_command

import wsolviz
from tests.backends.test_zoo import with_classes
from tests.file_server import FileServer, serve
from tests.parity.test_networks import official_state
from wsolviz.backends.own_format import read_header
from wsolviz.backends.zoo import FOLDER_VARIABLE, ZOO
from wsolviz.cli import cli, main, spread_lists

NAME = "resnet50_cam.test"


@pytest.fixture
def zoo(monkeypatch, capsys):
    """Run a subcommand; gives its exit status, its results and what it said."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsolviz", "zoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out, " ".join(told.err.split())

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A checkpoint as the authors' scripts write it."""
    path = tmp_path_factory.mktemp("released") / "weights.pth"
    torch.save(
        {"state_dict": with_classes(official_state("bridging_resnet50_cam_28"), "fc", 9)}, path
    )
    return path.read_bytes()


@pytest.fixture
def released(content, folder, monkeypatch):
    """An entry whose file a server has."""
    with serve(FileServer(content)) as server:
        entry = ZOO["resnet50_cam.cub_bridging"].model_copy(
            update={
                "name": NAME,
                "file": "test.pth",
                "url": server.address,
                "num_classes": 9,
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
        monkeypatch.setitem(ZOO._entries, NAME, entry)
        yield entry, server


def test_list_has_a_line_for_every_checkpoint(zoo, folder):
    folder.mkdir()
    (folder / ZOO["slak_base.in1k"].file).touch()
    status, out, _ = zoo("list")
    assert status == 0
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert ZOO.keys() <= lines.keys()
    assert lines["slak_base.in1k"][1] == "yes"
    assert lines["replknet_31b.cub"][1] == "no"
    row = " ".join(lines["replknet_31b.cub"])
    assert "replknet_31b 200 of CUB-200-2011 none stated cam: MaxBoxAcc 90.99, V2 76.4" in row
    status, out, _ = zoo("list", "--here")
    assert [name for name in ZOO if f" {name} " in out] == [
        "slak_base.in1k",
        *(name for name, entry in ZOO.items() if entry.is_bundled),
    ]


def test_info_tells_everything_and_a_command_that_measures_it(zoo, folder):
    entry = ZOO["replknet_31b.cub"]
    status, out, _ = zoo("info", entry.name)
    assert status == 0
    for said in (
        *(entry.page, entry.link, entry.how_to_get, str(entry.path), "none stated"),
        *("size (384, 384), mean (0.5, 0.5, 0.5)", "200 of CUB-200-2011", "90.99", "80.4"),
    ):
        assert said in out
    (command,) = [line for line in out.splitlines() if line.startswith("python -m wsolviz")]
    arguments = spread_lists(shlex.split(command)[3:])
    evaluate = get_command(cli).commands["evaluate"]
    parsed = evaluate.make_context("evaluate", arguments[1:]).params
    assert parsed["backbone"] == ["replknet_31b.cub"]
    assert parsed["method"] == ["cam", "pc1_paper"]
    assert parsed["space"] == "pre_norm"


def test_info_of_a_network_without_localization_figures_names_no_command(zoo, folder):
    _, out, _ = zoo("info", "convnext_tiny.in1k")
    assert "top-1 82.1" in out
    assert "evaluate" not in out


def test_get_fetches_checks_and_loads(zoo, released):
    entry, server = released
    server.cuts = [1 << 20]
    status, _, said = zoo("get", NAME)
    assert status == 0, said
    assert f"its SHA-256 is {entry.sha256}, as published" in said
    assert entry.path.read_bytes() == server.content
    assert server.sent == len(server.content)
    status, _, said = zoo("get", NAME)
    assert (status, server.sent) == (0, len(server.content))
    assert f"{NAME} is here already" in said
    status, _, said = zoo("check", NAME)
    assert status == 0, said
    assert f"{NAME}: loads whole, 9 classes, CAM is exact, SHA-256 {entry.sha256}" in said


def test_get_keeps_no_file_with_another_hash(zoo, released):
    entry, server = released
    server.content = server.content[:-1] + b"!"
    status, _, said = zoo("get", NAME)
    assert status == 2
    assert "thrown away" in said
    assert not entry.path.exists()


def test_get_says_in_a_line_what_to_download_by_hand(zoo, folder):
    entry = ZOO["replknet_31b.cub"]
    status, _, said = zoo("get", entry.name)
    assert (status, said) == (1, entry.how_to_get)


def test_check_names_what_is_wrong_and_goes_on(zoo, released, content):
    entry, _ = released
    entry.path.parent.mkdir()
    entry.path.write_bytes(content)
    wrong = ZOO["slak_tiny.in1k"]
    wrong.path.write_bytes(content)
    status, _, said = zoo("check")
    assert status == 1
    assert f"{NAME}: loads whole" in said
    assert f"{wrong.name}: {wrong.path} does not fit SLaK" in said
    bundled = [entry for entry in ZOO.values() if entry.is_bundled]
    assert all(f"{entry.name}: loads whole" in said for entry in bundled)
    here = 2 + len(bundled)
    assert f"{here} of {len(ZOO)} checkpoints are here, 1 of them not right" in said


def test_check_of_an_absent_file_says_how_to_get_it(zoo, folder):
    entry = ZOO["replknet_31b.cub"]
    status, _, said = zoo("check", entry.name)
    assert status == 1
    assert entry.how_to_get in said


def test_an_unknown_name_is_one_line(zoo):
    status, _, said = zoo("info", "replknet_31b.cup")
    assert status == 2
    assert "Did you mean 'replknet_31b.cub'?" in said


@pytest.mark.parametrize(
    ("name", "hint"), [("nosuch.pth", ""), ("replknet_31b.cup", "Did you mean replknet_31b.cub?")]
)
def test_check_of_what_is_neither_file_nor_entry_says_so(zoo, name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, said = zoo("check", name)
    assert status == 2
    assert f"There is no file {name}, and the zoo has no checkpoint of that name." in said
    assert hint in said
    assert sum(entry in said for entry in ZOO) <= bool(hint)


def test_check_says_what_a_file_is(zoo, released, content, tmp_path):
    entry, _ = released
    path = tmp_path / "unnamed.pth"
    path.write_bytes(content)
    status, _, said = zoo("check", path)
    assert status == 0, said
    assert "resnet50_cam or timm/resnet50 with 9 classes" in said
    assert f"SHA-256 {entry.sha256}, in the zoo as {NAME}" in said
    path.write_text("no checkpoint")
    status, _, said = zoo("check", path)
    assert status == 2
    assert "cannot be read safely" in said


def test_convert_writes_a_file_that_says_what_it_is(zoo, released, content, tmp_path):
    entry, _ = released
    path, out = tmp_path / "given.pth", tmp_path / "own.safetensors"
    path.write_bytes(content)
    status, _, said = zoo("convert", path, out)  # known by its hash
    assert status == 0, said
    backbone = wsolviz.load_backbone(f"file/{out}", device="cpu")
    assert backbone.num_classes == 9
    assert backbone.preprocessing.interpolation is Image.Resampling.BILINEAR
    assert backbone.weights.licence == entry.licence
    state = torch.load(path, weights_only=True)["state_dict"]
    torch.testing.assert_close(backbone.module.state_dict(), state)
    header = read_header(out)
    assert (header.backbone, header.output_stride) == ("resnet50_cam", 8)
    assert header.details == {"zoo": NAME, "sha256_of_source": entry.sha256}
    status, _, said = zoo("convert", path, out)
    assert (status, "--force" in said) == (2, True)
    status, _, said = zoo("convert", out, tmp_path / "again.safetensors")
    assert (status, "in this project's format already" in said) == (2, True)


def test_convert_asks_which_network_where_several_fit(zoo, folder, content, tmp_path):
    path, out = tmp_path / "given.pth", tmp_path / "own.safetensors"
    path.write_bytes(content)
    status, _, said = zoo("convert", path, out)
    assert status == 2
    assert "fits resnet50_cam or timm/resnet50 alike; say which with --as" in said
    status, _, said = zoo("convert", path, out, "--as", "slak_tiny")
    assert status == 2
    assert "is a checkpoint of resnet50_cam or timm/resnet50, not of slak_tiny" in said
    assert not out.exists()
    status, _, said = zoo("convert", path, out, "--as", "resnet50_cam")
    assert status == 0, said
    assert read_header(out).backbone == "resnet50_cam"


def test_convert_refuses_a_file_that_would_run_code(zoo, tmp_path):
    torch.save({"state_dict": {}, "extra": SimpleNamespace()}, tmp_path / "pickled.pth")
    status, _, said = zoo("convert", tmp_path / "pickled.pth", tmp_path / "own.safetensors")
    assert status == 2
    assert "would run code" in said
    assert "open it in a place that may be lost" in said
