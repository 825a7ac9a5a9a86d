"""Which backbones a visitor may name, at every entrance, and what is said of those not here."""

import json
from zipfile import ZipFile

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import wsolviz
from wsolviz.backends.loading import BACKBONES
from wsolviz.backends.own_format import WeightsHeader, save_checkpoint
from wsolviz.backends.uploads import take_upload
from wsolviz.backends.zoo import FOLDER_VARIABLE, ZOO
from wsolviz.compare import compare
from wsolviz.export import write_zip
from wsolviz.facts import row_facts
from wsolviz.ui import controls, evaluate_tab, weights_input
from wsolviz.ui.address import Choices, read_address
from wsolviz.ui.answers import answer_address, show
from wsolviz.ui.app import build_app
from wsolviz.ui.backbones import NO_PATHS, absent_backbones, absent_list, backbones_here
from wsolviz.ui.controls import EXAMPLES
from wsolviz.ui.downloads import save_grid, save_report, save_zip
from wsolviz.ui.plots_panel import draw_plots
from wsolviz.ui.question import Question
from wsolviz.ui.weights_input import VARIABLE, allowed_by_environment

ENTRY = ZOO["replknet_31b.cub"]


@pytest.fixture
def by_path(checkpoint):
    """The name under which the command line loads the file."""
    return f"file/{checkpoint}"


@pytest.fixture
def upload(checkpoint):
    (taken,) = take_upload(checkpoint)
    return taken


@pytest.fixture
def no_zoo(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "weights"))
    return tmp_path


def question(backbone, dataset):
    return Question(dataset, "test", "none", backbone, ("cam",), "label")


def test_a_path_in_choices_is_refused(by_path):
    with pytest.raises(ValueError, match="Files of this server cannot be named"):
        Choices(backbones=("efficientnet_lite0", by_path)).request()


def test_a_path_in_the_address_is_left_out_and_told(by_path):
    choices, problems = read_address({"backbones": f"{by_path},efficientnet_lite1"})
    assert choices.backbones == ("efficientnet_lite1",)
    assert problems == [f"A backbone of the address was left out: {NO_PATHS}"]
    assert read_address({"backbones": by_path})[0] == Choices()


def test_a_path_in_the_timm_field_is_refused(by_path, monkeypatch):
    said = []
    monkeypatch.setattr(controls.gr, "Warning", said.append)
    assert controls.add_timm(by_path, []) == (by_path, [])
    assert said == [NO_PATHS]


def test_a_path_in_the_evaluate_tab_is_refused(by_path, crops, monkeypatch, upload):
    monkeypatch.setitem(evaluate_tab.datasets, "crops", crops)
    with pytest.raises(ValueError, match="Files of this server cannot be named"):
        question(by_path, "crops").run("test")
    with pytest.raises(ValueError, match="not be measured here"):
        question(upload.name, "crops").run("test")


def test_a_path_in_a_call_of_the_api_is_refused(address, by_path):
    client = Client(address, verbose=False)
    photo = handle_file(EXAMPLES[0])
    for name in (by_path, "file//etc/passwd"):
        with pytest.raises(AppError, match="Files of this server cannot be named"):
            client.predict(photo, {"backbones": [name]}, api_name="/explain")


@pytest.mark.parametrize("save", [save_grid, save_zip, save_report, draw_plots])
def test_a_path_in_what_is_to_be_saved_or_plotted_is_refused(by_path, save):
    shown = {"photo": EXAMPLES[0], "choices": Choices(backbones=(by_path,)).model_dump()}
    with pytest.raises(gr.Error, match="Files of this server cannot be named"):
        save(shown, "")


def test_an_absent_backbone_says_its_line_and_stops_nothing(no_zoo, address):
    missing = ENTRY.missing()
    told, choices, problems = answer_address(
        EXAMPLES[0], Choices(backbones=(ENTRY.name, "efficientnet_lite0"))
    )
    assert (problems, choices.backbones[0]) == ([], ENTRY.name)
    assert "replknet_31B1K384_CUB.pth" in told.status
    rows = told.payload["rows"]
    assert rows[0]["cells"][0]["message"] == missing
    assert rows[1]["cells"][0]["kind"] == "heatmap"
    assert str(no_zoo) not in json.dumps(told.payload) + told.status
    _, choices, problems = answer_address(EXAMPLES[0], Choices(backbones=(ENTRY.name,)))
    assert choices == Choices()
    assert missing in problems[0]
    manifest, _ = Client(address, verbose=False).predict(
        handle_file(EXAMPLES[0]),
        {"backbones": [ENTRY.name, "efficientnet_lite0"], "methods": ["cam"]},
        api_name="/explain",
    )
    assert manifest["rows"][0] == {"backbone": ENTRY.name, "failure": missing}
    assert len(manifest["rows"][1]["cells"]) == 1


@pytest.mark.parametrize("name", ["vgg16_cam", "slak_base", "replknet_31b"])
def test_an_architecture_without_weights_says_its_line(no_zoo, name):
    (row,) = compare(EXAMPLES[0], Choices(backbones=(name,)).request()).rows
    assert row.notice == BACKBONES[name].missing() != ""
    assert "weights=" not in row.notice


def test_every_backbone_is_here_or_absent_with_a_line(no_zoo):
    own = {name for name, entry in BACKBONES.items() if not entry.is_family}
    absent = absent_backbones()
    names = {name for names in absent.values() for name in names}
    assert "efficientnet_lite0" in backbones_here()
    assert names | set(backbones_here()) == own
    assert not names & set(backbones_here())
    shown = absent_list()
    assert f"Not here yet ({len(names)})" in shown
    assert shown.count('aria-disabled="true"') == shown.count("<small") == len(absent)


def test_a_damaged_file_of_the_zoo_is_told_without_its_path(no_zoo):
    folder = no_zoo / "weights"
    folder.mkdir()
    (folder / ENTRY.file).write_bytes(b"nonsense")
    (row,) = compare(EXAMPLES[0], Choices(backbones=(ENTRY.name,)).request()).rows
    assert row.notice.startswith(f"{ENTRY.file} cannot be read safely")
    assert str(folder) in row.failure, "who runs the program is told where it is"


def test_a_sent_file_is_shown_by_its_own_name_everywhere(upload, checkpoint, tmp_path):
    choices = Choices(backbones=(upload.name, "efficientnet_lite0"), methods=("cam",))
    comparison = compare(EXAMPLES[0], choices.request())
    payload = show(comparison, choices, choices.look())
    assert [row["title"] for row in payload["rows"]] == ["mine.safetensors", "efficientnet_lite0"]
    assert payload["private_rows"] == ["mine.safetensors"]
    assert payload["address"] == "backbones=efficientnet_lite0&methods=cam"
    path = write_zip(comparison, choices.look(), tmp_path / "all.zip")
    with ZipFile(path) as archive:
        assert "mine.safetensors_cam.png" in archive.namelist()
        written = b"".join(map(archive.read, ("manifest.json", "report.html"))).decode()
    for text in (json.dumps(payload), written):
        assert "mine.safetensors" in text
        assert "upload/" not in text, "the token is its sender's"
        assert str(checkpoint.parent) not in text


def test_an_address_names_other_backbones_but_no_sent_file(upload):
    chosen = Choices(backbones=("efficientnet_lite1", upload.name))
    assert chosen.query() == "backbones=efficientnet_lite1"
    assert Choices(backbones=(upload.name,)).query() == ""


def test_a_sent_file_that_is_not_there_gives_way_with_a_notice():
    choices, _ = read_address({"backbones": "upload/0123/theirs.safetensors"})
    _, choices, problems = answer_address(EXAMPLES[0], choices)
    assert choices == Choices()
    assert "theirs.safetensors is not on this server" in problems[0]


def test_two_sent_files_of_one_name_are_not_compared():
    names = ("upload/01/mine.safetensors", "upload/02/mine.safetensors")
    with pytest.raises(ValueError, match=r"Two different files are named mine\.safetensors"):
        Choices(backbones=names).request()


def test_without_the_owners_word_nothing_can_be_sent(monkeypatch):
    monkeypatch.setattr(evaluate_tab, "datasets", {})  # the served app keeps its own

    def handlers(**options):
        return {function.name for function in build_app(**options).fns.values()}

    assert "take_file" in handlers(allow_upload_weights=True)
    assert not {"take_file", "take_network"} & handlers()


@pytest.mark.parametrize(
    ("said", "allowed"), [(None, False), ("", False), ("0", False), ("1", True), ("True", True)]
)
def test_a_space_allows_uploads_in_the_environment(monkeypatch, said, allowed):
    monkeypatch.delenv(VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(VARIABLE, said)
    assert allowed_by_environment() is allowed


def test_an_unclear_word_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "maybe")
    with pytest.raises(ValueError, match="1 allows uploads of weights, 0 does not"):
        allowed_by_environment()


def test_no_room_for_a_sent_file_leaves_it_in_the_menu(upload, checkpoint, monkeypatch):
    said = []
    monkeypatch.setattr(weights_input.gr, "Warning", said.append)
    full = ["a", "b", "c", "d"]
    menu, _, sent, told = weights_input.take_file(str(checkpoint), full, [], lambda *_: None)
    assert (menu.value, sent) == (full, [upload.name])
    assert ("mine.safetensors", upload.name) in menu.choices
    assert len(said) == 1
    assert "7 classes" in told


def test_a_row_before_the_norm_names_its_space_and_why_it_is_not_exact(tmp_path):
    name, path = "timm/convnext_atto", tmp_path / "atto.safetensors"
    module = wsolviz.load_backbone(name, weights=None, num_classes=3).module
    save_checkpoint(module.state_dict(), path, WeightsHeader(backbone=name, num_classes=3))
    (sent,) = take_upload(path)
    for space, exact in (("logit", "exact"), ("pre_norm", "not exact")):
        choices = Choices(backbones=(sent.name,), methods=("cam",), space=space)
        (row,) = compare(EXAMPLES[0], choices.request()).rows
        told = {fact.label: fact for fact in row_facts(row)}
        assert (told["space"].value, told["CAM is"].value) == (space, exact)
    assert "before the head's norm" in told["CAM is"].help
