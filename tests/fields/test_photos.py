"""Choosing photos: the same ones in every run."""

import shutil

import pytest

from wsolviz.fields.photos import NamedPhoto, choose_photos
from wsolviz.photo import read_photo


def names(chosen):
    return [photo.name for photo in chosen]


def test_fewer_photos_are_the_first_of_more(photos):
    every = names(choose_photos(photos))
    assert sorted(every) == [f"{i}.png" for i in range(5, 10)] + [
        f"below/{i}.png" for i in range(5)
    ]
    assert every != sorted(every)
    for number in (1, 4, 10, 99):
        assert names(choose_photos(photos, number)) == every[:number]


def test_another_seed_gives_another_choice(photos):
    assert names(choose_photos(photos, 5, seed=1)) != names(choose_photos(photos, 5))


def test_a_photo_more_moves_no_other(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "copy")
    before = names(choose_photos(folder))
    shutil.copy(folder / "5.png", folder / "new.png")
    after = names(choose_photos(folder))
    assert [name for name in after if name != "new.png"] == before


def test_a_digest_tells_what_a_photo_shows(photos, tmp_path):
    first, second = (NamedPhoto(name, photos / name) for name in ("5.png", "6.png"))
    copied = NamedPhoto("other", shutil.copy(photos / "5.png", tmp_path / "other.png"))
    assert first.digest == copied.digest != second.digest
    read = NamedPhoto("5.png", read_photo(photos / "5.png"))
    assert read.digest == NamedPhoto("x", read_photo(photos / "5.png")).digest
    assert NamedPhoto("gone", tmp_path / "gone.png").digest == "unreadable gone"


def test_wrong_folders_and_numbers_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        choose_photos(tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no photo"):
        choose_photos(tmp_path)
    with pytest.raises(ValueError, match="at least 1"):
        choose_photos(tmp_path, 0)
