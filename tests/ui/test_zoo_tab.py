"""The Model zoo's table."""

import re

import pytest

from wsolviz.backends.zoo import FOLDER_VARIABLE, ZOO
from wsolviz.backends.zoo_backbones import input_size
from wsolviz.ui.zoo_tab import COLUMNS, introduction, zoo_html

ENTRY = ZOO["replknet_31b.cub"]


def cells_of(name):
    """Texts of an entry's cells by column title."""
    rows = re.findall(r'<tr role="row"(?: class="absent")?>(<td.*?)</tr>', zoo_html())
    row = rows[names_in(zoo_html()).index(name)]
    found = re.findall(r'data-title="(.*?)">(.*?)</td>', row)
    return {title: re.sub("<.*?>", "", content) for title, content in found}


def names_in(text):
    """Which entries have a row in a part of the page, in its order."""
    names = re.findall(r'data-title="Name"><div><strong>(.*?)</strong>', text)
    return [name.replace("<wbr>", "") for name in names]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def test_every_entry_has_a_row_with_every_column(folder):
    assert sorted(names_in(zoo_html())) == sorted(ZOO)
    for name, entry in ZOO.items():
        cells = cells_of(name)
        assert list(cells) == list(COLUMNS)
        assert cells["Backbone"] == entry.backbone
        assert re.fullmatch(r"\d+×\d+", cells["Input"])


def test_a_row_tells_what_was_published_and_in_which_space(folder):
    cells = cells_of(ENTRY.name)
    assert "CAM on CUB-200-2011: MaxBoxAcc 90.99, MaxBoxAccV2 76.4" in cells["Published"]
    assert "published numbers: space pre_norm" in cells["Published"]
    assert cells["Space"] == "pre_norm"
    assert cells["Input"] == "384×384"
    assert cells["Licence"] == "none stated"
    assert "space" not in cells_of("replknet_31b.in1k")["Published"]


def test_what_is_absent_says_its_line_and_what_is_here_has_a_button(folder):
    assert cells_of(ENTRY.name)["On this server"] == ENTRY.how_to_get
    bundled = [name for name, entry in ZOO.items() if entry.is_bundled]
    assert re.findall('data-backbone="(.*?)"', zoo_html()) == bundled
    (folder / ENTRY.file).touch()
    assert cells_of(ENTRY.name)["On this server"] == "here Compare with it"
    assert re.findall('data-backbone="(.*?)"', zoo_html()) == [ENTRY.name, *bundled]


def test_what_is_here_comes_first_and_the_rest_is_folded_by_its_page(folder):
    first, *folds = zoo_html().split("<details>")
    bundled = [name for name, entry in ZOO.items() if entry.is_bundled]
    assert names_in(first) == bundled
    assert f"On this server ({len(bundled)})" in first
    assert f"Not here yet ({len(ZOO) - len(bundled)})" in first
    pages = [{ZOO[name].page for name in names_in(fold)} for fold in folds]
    assert all(len(page) == 1 for page in pages)
    assert len(set.union(*pages)) == len(folds), "a fold a page"
    for fold in folds:
        summary = re.search("<summary>(.*?)</summary>", fold)[1]
        assert f"({len(names_in(fold))})" in summary
        assert all(name in summary for name in names_in(fold)), "found without unfolding"
    for entry in ZOO.values():
        if not entry.is_bundled:
            (folder / entry.file).touch()
    assert names_in(zoo_html()) == list(ZOO)
    assert "details" not in zoo_html()
    assert "Not here" not in zoo_html()


def test_an_input_size_is_the_entrys_or_else_the_architectures():
    assert input_size(ENTRY) == (384, 384)
    changes = {"input": ENTRY.input.model_copy(update={"size": None})}
    assert input_size(ENTRY.model_copy(update=changes)) == (224, 224)
    changes["backbone"] = "timm/resnetv2_50x1_bit.goog_in21k_ft_in1k"
    assert input_size(ENTRY.model_copy(update=changes)) == (448, 448)


@pytest.mark.parametrize(
    ("uploads", "said"), [(True, "can be sent"), (False, "--allow-upload-weights")]
)
def test_the_introduction_says_whether_files_may_be_sent(uploads, said):
    text = introduction(uploads=uploads)
    assert said in text
    assert "`efficientnet_lite0`" in text
