"""Which data sets a server may read."""

import os

import pytest

from wsolviz.ui.data_roots import VARIABLE, find_datasets, roots_of_environment


def make(folder, *splits):
    for split in splits:
        (folder / "metadata" / split).mkdir(parents=True)
        (folder / "metadata" / split / "localization.txt").write_text("")
    return folder


def test_a_root_is_a_data_set_or_holds_some(tmp_path):
    birds = make(tmp_path / "sets" / "birds", "val", "test")
    cats = make(tmp_path / "sets" / "cats", "test")
    (tmp_path / "sets" / "notes").mkdir()
    alone = make(tmp_path / "alone", "test")
    found = find_datasets([tmp_path / "sets", alone])
    assert found == {"birds": birds, "cats": cats, "alone": alone}


def test_a_split_without_ground_truth_makes_no_data_set(tmp_path):
    (tmp_path / "photos" / "metadata" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="neither is nor holds a data set"):
        find_datasets([tmp_path])


def test_a_missing_root_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data folder"):
        find_datasets([tmp_path / "none"])
    one, other = make(tmp_path / "a" / "x", "test"), make(tmp_path / "b" / "x", "test")
    with pytest.raises(ValueError, match="have the same name"):
        find_datasets([one, other])


def test_a_space_names_its_roots_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert roots_of_environment() == []
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path), "/b"]))
    assert [str(root) for root in roots_of_environment()] == [str(tmp_path), "/b"]
