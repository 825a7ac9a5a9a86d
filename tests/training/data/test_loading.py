"""Batches of photos that are read by name: the same ones with any number of processes."""

from __future__ import annotations

import os
import shutil
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from tests.training.data.conftest import NUMBER, TRAIN, loader_of, photos_of
from training.config import AugmentationConfig, RandAugmentConfig
from training.data import Augmentation, Loaded, Share, make_loader
from training.data.randomness import Purpose, seeded
from wsolviz.preprocess import Preprocessing

PLAIN = AugmentationConfig(resize=40)
EVERYTHING = AugmentationConfig(
    resize=None,
    crop="random_resized",
    color_jitter=0.3,
    rand_augment=RandAugmentConfig(),
    random_erasing=0.5,
    mixup=0.4,
    cutmix=1.0,
)


def same(one: list[Loaded], other: list[Loaded]) -> bool:
    assert [loaded.image_ids for loaded in one] == [loaded.image_ids for loaded in other]
    assert [loaded.broken for loaded in one] == [loaded.broken for loaded in other]
    for first, second in zip(one, other, strict=True):
        for name in ("images", "target", "soft_target", "maps"):
            values = getattr(first.batch, name), getattr(second.batch, name)
            assert values == (None, None) or torch.equal(*values), name
    return True


def ids(epoch: list[Loaded]) -> list[str]:
    return [image for loaded in epoch for image in loaded.image_ids]


def test_any_number_of_workers_and_a_resumption_give_the_same_pixels(root):
    photos = photos_of(root)
    alone = loader_of(photos, EVERYTHING)
    unbroken = [list(alone.epoch(number)) for number in range(2)]
    assert [len(epoch) for epoch in unbroken] == [3, 3]
    workers = loader_of(photos, EVERYTHING, workers=2)
    for number, epoch in enumerate(unbroken):
        assert same(list(workers.epoch(number)), epoch)
    assert same(list(workers.epoch(1, first_step=2)), unbroken[1][2:])
    assert same(list(loader_of(photos, EVERYTHING).epoch(1, first_step=1)), unbroken[1][1:])
    assert list(alone.epoch(0, first_step=3)) == []


def test_an_epoch_that_was_left_in_its_middle_does_not_show_in_the_next(root):
    loader = loader_of(photos_of(root), EVERYTHING, workers=2)
    expected = list(loader.epoch(4))
    next(loader.epoch(3))
    assert same(list(loader.epoch(4)), expected)


def test_a_resumed_run_reads_nothing_of_what_it_skips(root, monkeypatch):
    photos = photos_of(root)
    read = []
    monkeypatch.setattr(
        type(photos), "read", lambda self, i: read.append(i) or self.datasets[0].images.read(
            self.image_ids[i]).image
    )  # fmt: skip
    (loaded,) = loader_of(photos, PLAIN).epoch(0, first_step=2)
    assert [TRAIN[index] for index in read] == list(loaded.image_ids)


def test_batches_hold_what_a_plain_loop_makes_of_the_photos(root):
    """The order is the loader's; label and pixels of each place are made again here."""
    photos = photos_of(root)
    augmentation = Augmentation(PLAIN, Preprocessing(size=(32, 32)), 3)
    loader = make_loader(photos, augmentation, batch_size=4, seed=5)
    for step, loaded in enumerate(loader.epoch(2)):
        for place, image_id in enumerate(loaded.image_ids):
            index = TRAIN.index(image_id)
            with seeded(Purpose.PHOTO, 5, 2, 4 * step + place):
                image, _ = augmentation(photos.read(index), image_id)
            assert torch.equal(loaded.batch.images[place], image)
            assert loaded.batch.target[place] == index % 3
        assert loaded.batch.soft_target is None
        assert loaded.batch.maps is None


def test_an_epoch_sees_each_photo_once_in_another_order_each_time(root):
    loader = loader_of(photos_of(root), PLAIN)
    orders = [ids(loader.epoch(number)) for number in range(6)]
    for order in orders:
        assert len(order) == 12
        assert len(set(order)) == 12
        assert set(order) <= set(TRAIN)
    assert len({tuple(order) for order in orders}) == 6
    assert len({frozenset(order) for order in orders}) > 1  # not always the same one is left out
    assert ids(loader_of(photos_of(root), PLAIN, seed=6).epoch(0)) != orders[0]


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_several_processes_join_to_the_batch_of_one(root, processes):
    photos = photos_of(root)
    whole = list(loader_of(photos, PLAIN).epoch(1))
    shares = [
        list(loader_of(photos, PLAIN, share=Share(rank, processes)).epoch(1))
        for rank in range(processes)
    ]
    for step, expected in enumerate(whole):
        parts = [share[step] for share in shares]
        assert sum((part.image_ids for part in parts), ()) == expected.image_ids
        assert torch.equal(torch.cat([part.batch.images for part in parts]), expected.batch.images)
        assert torch.equal(torch.cat([part.batch.target for part in parts]), expected.batch.target)


def test_mixed_batches_keep_labels_and_have_probabilities(root):
    config = AugmentationConfig(resize=40, mixup=0.4, cutmix=1.0)
    photos = photos_of(root)
    first, second = (
        [*loader_of(photos, config, share=Share(rank, 2)).epoch(0)] for rank in range(2)
    )
    for loaded in (*first, *second):
        soft_target, target = loaded.batch.soft_target, loaded.batch.target
        torch.testing.assert_close(soft_target.sum(dim=1), torch.ones(2))
        partner = target.roll(1)
        for row, own, other in zip(soft_target, target, partner, strict=True):
            assert set(row.nonzero().flatten().tolist()) <= {int(own), int(other)}
    shares = [loaded.batch.soft_target.max() for loaded in (*first, *second)]
    assert len(set(map(float, shares))) > 3  # each step and each process draws its own


def test_torchs_random_numbers_are_left_alone(root):
    torch.manual_seed(1)
    expected = torch.rand(3)
    for workers in (0, 1):
        torch.manual_seed(1)
        list(loader_of(photos_of(root), EVERYTHING, workers=workers).epoch(0))
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_photos_are_named_and_the_next_ones_stand_in(root, workers):
    photos = photos_of(root)
    order = ids(loader_of(photos, PLAIN).epoch(0))
    unseen = set(TRAIN) - set(order)
    (last,) = unseen
    (root / "images" / order[3]).write_bytes(b"no photo")
    whole = (root / "images" / order[6]).read_bytes()
    (root / "images" / order[6]).write_bytes(whole[: len(whole) // 2])
    (root / "images" / order[7]).unlink()
    (root / "images" / order[11]).unlink()
    epoch = list(loader_of(photos, PLAIN, workers=workers).epoch(0))
    expected = [*order[:3], order[4], *order[4:6], order[8], order[8], *order[8:11], last]
    assert ids(epoch) == expected
    assert [[image for image, _ in loaded.broken] for loaded in epoch] == [
        [order[3]], [order[6], order[7]], [order[11]]
    ]  # fmt: skip
    reasons = dict(one for loaded in epoch for one in loaded.broken)
    assert "not an image that can be read" in reasons[order[3]]
    assert "broken or cut off" in reasons[order[6]]
    assert "no photo" in reasons[order[7]]
    assert epoch[0].batch.target[3] == TRAIN.index(order[4]) % 3
    # The one that stands in is cut as the place is, so that it comes twice and differs.
    assert not torch.equal(epoch[1].batch.images[2], epoch[1].batch.images[3])


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_broken_photos_is_an_error_that_says_so(root, workers):
    photos = photos_of(root)
    for image in TRAIN:
        (root / "images" / image).write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"^Not one of the 13 photos of data.train .* train/\d\d"):
        list(loader_of(photos, PLAIN, workers=workers).epoch(0))


def test_workers_read_one_archive_side_by_side(root):
    from_folder = list(loader_of(photos_of(root), PLAIN, batch_size=1).epoch(0))
    with ZipFile(root / "all.zip", "w") as archive:
        for image_id in TRAIN:
            archive.write(root / "images" / image_id, image_id)
    shutil.rmtree(root / "images")
    photos = photos_of(root)
    (opened,) = photos.datasets[0].images._archives
    place = os.lseek(opened.fp.fileno(), 0, os.SEEK_CUR)
    loader = loader_of(photos, PLAIN, batch_size=1, workers=2)
    for _ in range(3):
        assert same(list(loader.epoch(0)), from_folder)
    # A worker that read through what it inherited would have moved this process's place, too.
    assert os.lseek(opened.fp.fileno(), 0, os.SEEK_CUR) == place


def test_maps_come_with_their_photos(root):
    photos = photos_of(root)
    maps = {image: np.full((5, 7), n / NUMBER, np.float32) for n, image in enumerate(TRAIN)}
    loader = loader_of(photos, PLAIN, target_maps=maps, map_size=6)
    for loaded in loader.epoch(0):
        assert loaded.batch.maps.shape == (4, 6, 6)
        for image_id, values in zip(loaded.image_ids, loaded.batch.maps, strict=True):
            torch.testing.assert_close(values, torch.full((6, 6), TRAIN.index(image_id) / NUMBER))
    del maps[TRAIN[4]]
    with pytest.raises(ValueError, match=rf"1 of the 13 photos have no target map.*{TRAIN[4]}"):
        loader_of(photos, PLAIN, target_maps=maps, map_size=6)


def test_batches_that_cannot_be_made_are_refused(root):
    photos = photos_of(root)
    with pytest.raises(ValueError, match=r"batch_size is 5.*2 processes × 2.*multiple of 4.*8"):
        loader_of(photos, PLAIN, batch_size=5, accumulate=2, share=Share(0, 2))
    with pytest.raises(ValueError, match="13 photos, fewer than one batch of 14"):
        loader_of(photos, PLAIN, batch_size=14)
    with pytest.raises(ValueError, match="mix the photos of one process's part"):
        loader_of(photos, EVERYTHING, batch_size=2, share=Share(0, 2))


@pytest.mark.cuda
def test_batches_for_a_gpu_lie_in_page_locked_memory(root):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for workers in (0, 1):
        for loaded in loader_of(photos_of(root), EVERYTHING, workers=workers, device="cuda").epoch(
            0
        ):
            assert loaded.batch.images.is_pinned()
            assert loaded.batch.soft_target.is_pinned()
