"""Photos in WebDataset shards."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
import torch
import webdataset

from tests.training.data.conftest import CLASS_NAMES, PREPROCESSING, loader_of, picture
from training.config import AugmentationConfig, DataConfig, ShardSource
from training.data import Share, open_sources

PLAIN = AugmentationConfig(crop="none", flip=0.0)
SHARDS, EACH = 4, 6


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    picture(number).save(file, "png")
    return file.getvalue()


def write_shard(path, numbers, **changed):
    """Photos by their numbers; the label is the number modulo 3."""
    with webdataset.TarWriter(str(path)) as writer:
        for number in numbers:
            files = {"png": encoded(number), "cls": str(number % 3).encode()}
            files |= changed.get(f"photo{number}", {})
            writer.write({"__key__": f"photo{number}", **files})


@pytest.fixture
def shards(tmp_path):
    for shard in range(SHARDS):
        write_shard(tmp_path / f"part-{shard}.tar", range(shard * EACH, (shard + 1) * EACH))
    return tmp_path


def source(folder, pattern="part-{0..3}.tar", number=SHARDS * EACH, names=CLASS_NAMES, **options):
    return ShardSource(
        kind="webdataset", shards=str(folder / pattern), num_images=number, class_names=names,
        **options,
    )  # fmt: skip


def photos_in(*sources):
    return open_sources(DataConfig(train=sources)).with_own_classes()


def ids(epoch):
    return [image for loaded in epoch for image in loaded.image_ids]


EVERY_ID = {f"part-{n // EACH}.tar/photo{n}" for n in range(SHARDS * EACH)}


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_see_each_photo_once_an_epoch(shards, workers):
    photos = photos_in(source(shards))
    orders = []
    for epoch in range(2):
        seen = []
        for rank in range(2):
            loader = loader_of(photos, PLAIN, share=Share(rank, 2), workers=workers)
            assert loader.steps == 6
            given = list(loader.epoch(epoch))
            assert [len(loaded.image_ids) for loaded in given] == [2] * 6
            seen += ids(given)
        assert Counter(seen) == dict.fromkeys(EVERY_ID, 1)
        orders.append(seen)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_photos_are_whole_and_labelled_whatever_the_workers(shards, workers):
    epoch = list(loader_of(photos_in(source(shards)), PLAIN, workers=workers).epoch(0))
    assert Counter(ids(epoch)) == dict.fromkeys(EVERY_ID, 1)
    for loaded in epoch:
        for image_id, image, target in zip(
            loaded.image_ids, loaded.batch.images, loaded.batch.target, strict=True
        ):
            number = int(image_id.rpartition("photo")[2])
            assert torch.equal(image, PREPROCESSING(picture(number)))
            assert target == number % 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_can_be_repeated_and_resumed(shards, workers):
    config = AugmentationConfig(resize=40, color_jitter=0.2, mixup=0.5)
    photos = photos_in(source(shards, shuffle=3))
    unbroken = list(loader_of(photos, config, workers=workers).epoch(1))
    for first_step in (0, 4):
        again = list(loader_of(photos, config, workers=workers).epoch(1, first_step))
        assert len(again) == 6 - first_step
        for one, other in zip(again, unbroken[first_step:], strict=True):
            assert one.image_ids == other.image_ids
            assert torch.equal(one.batch.images, other.batch.images)
            assert torch.equal(one.batch.soft_target, other.batch.soft_target)


def test_photos_are_shuffled_across_shards(shards):
    order = ids(loader_of(photos_in(source(shards)), PLAIN).epoch(0))
    shard = np.array([int(image[5]) for image in order])
    assert (np.diff(shard) != 0).sum() > 8  # 3 where shards come one after the other
    by_shard = ids(loader_of(photos_in(source(shards, shuffle=1)), PLAIN).epoch(0))
    assert (np.diff([int(image[5]) for image in by_shard]) != 0).sum() == 3


def test_every_process_takes_as_many_steps_whichever_shards_it_has(tmp_path):
    write_shard(tmp_path / "part-0.tar", range(14))
    write_shard(tmp_path / "part-1.tar", range(14, 20))
    photos = photos_in(source(tmp_path, "part-{0..1}.tar", 20))
    seen = []
    for rank in range(2):
        epoch = list(loader_of(photos, PLAIN, share=Share(rank, 2)).epoch(0))
        assert len(epoch) == 5
        seen.append(Counter(ids(epoch)))
    few, many = sorted(seen, key=len)
    assert sum(few.values()) == sum(many.values()) == 10
    assert set(few.values()) == {1, 2}  # 6 photos, of which 4 come twice
    assert len(few) == 6
    assert set(many.values()) == {1}


def test_broken_photos_and_labels_are_named_and_passed_over(tmp_path):
    changed = {
        "photo1": {"png": b"no photo"},
        "photo3": {"cls": b"7"},
        "photo4": {"cls": b"oak"},
    }
    write_shard(tmp_path / "part-0.tar", range(8), **changed)
    photos = photos_in(source(tmp_path, "part-0.tar", 8))
    epoch = list(loader_of(photos, PLAIN).epoch(0))
    assert len(epoch) == 2
    reasons = dict(one for loaded in epoch for one in loaded.broken)
    assert "not an image that can be read" in reasons["part-0.tar/photo1"]
    assert "'7'; it is an index from 0 to 2" in reasons["part-0.tar/photo3"]
    assert "'oak'" in reasons["part-0.tar/photo4"]
    good = {f"part-0.tar/photo{number}" for number in (0, 2, 5, 6, 7)}
    assert set(ids(epoch)) == good
    assert set(ids(epoch)[:5]) == good


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_is_cut_off_or_gone_is_named(shards, workers):
    photos = photos_in(source(shards))
    (shards / "part-1.tar").unlink()
    content = (shards / "part-2.tar").read_bytes()
    (shards / "part-2.tar").write_bytes(content[: len(content) // 2])
    epoch = list(loader_of(photos, PLAIN, workers=workers).epoch(0))
    assert len(epoch) == 6
    names = {name for loaded in epoch for name, _ in loaded.broken}
    assert {"part-1.tar", "part-2.tar"} <= names
    assert {f"part-0.tar/photo{n}" for n in range(6)} <= set(ids(epoch))


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_broken_shards_is_an_error_that_says_so(shards, workers):
    photos = photos_in(source(shards))
    for shard in range(SHARDS):
        (shards / f"part-{shard}.tar").write_bytes(b"no archive at all" * 100)
    with pytest.raises(ValueError, match=r"^Not one of the 24 photos .* part-\d\.tar"):
        list(loader_of(photos, PLAIN, workers=workers).epoch(0))


def test_shards_without_any_photo_are_an_error_that_says_so(shards):
    photos = photos_in(source(shards))
    for shard in range(SHARDS):
        write_shard(shards / f"part-{shard}.tar", [])
    with pytest.raises(ValueError, match=r"^There is not one of the 24 photos of data\.train"):
        list(loader_of(photos, PLAIN).epoch(0))


def test_sources_of_shards_are_joined_by_their_class_names(shards):
    photos = open_sources(
        DataConfig(
            train=(
                source(shards, "part-{0..1}.tar", 12),
                source(shards, "part-{2..3}.tar", 12, ("cedar", "ash", "birch")),
            )
        )
    )
    with pytest.raises(ValueError, match="class 0 is 'ash' there, and 'cedar' here"):
        photos.with_own_classes()
    joined = photos.for_network(3, CLASS_NAMES)
    for loaded in loader_of(joined, PLAIN).epoch(0):
        for image_id, target in zip(loaded.image_ids, loaded.batch.target, strict=True):
            number = int(image_id.rpartition("photo")[2])
            names = CLASS_NAMES if number < 12 else ("cedar", "ash", "birch")
            assert CLASS_NAMES[target] == names[number % 3]


def test_what_shards_cannot_do_is_refused(shards):
    photos = photos_in(source(shards))
    with pytest.raises(ValueError, match="4 shards for 8 processes"):
        loader_of(photos, PLAIN, batch_size=8, share=Share(0, 8))
    with pytest.raises(ValueError, match="24 photos, fewer than one batch of 32"):
        loader_of(photos, PLAIN, batch_size=32)
    with pytest.raises(ValueError, match=r"target maps.*in place of shards"):
        loader_of(photos, PLAIN, target_maps={}, map_size=7)
    with pytest.raises(FileNotFoundError, match=r"2 of the 6 shards.*part-4\.tar"):
        photos_in(source(shards, "part-{0..5}.tar"))
