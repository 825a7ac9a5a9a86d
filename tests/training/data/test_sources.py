"""Where photos to train on come from, and what is refused."""

from __future__ import annotations

import pickle
import shutil
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from tests.training.data.conftest import CLASS_NAMES, TRAIN, photos_of, picture, write_split
from training.config import DataConfig, FolderSource, MetadataSource, ShardSource
from training.data import open_sources


def opened(*train, validation=None):
    return open_sources(DataConfig(train=train, validation=validation))


def of_metadata(root, **options):
    return MetadataSource(root=str(root), **options)


def pixels(photos):
    return {
        photos.image_ids[index]: np.asarray(photos.read(index)).tobytes()
        for index in range(len(photos))
    }


@pytest.fixture
def folders(tmp_path):
    """Class folders with the photos 0, 1, …, one of them deeper."""
    root = tmp_path / "woods" / "train"
    for number, name in enumerate(["oak/1.png", "oak/more/2.png", "pine/1.png", "yew/1.jpg"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(root / name)
    (root / "oak" / "notes.txt").write_text("not a photo")
    return root


def test_metadata_give_photos_in_their_order_with_labels_and_names(root):
    photos = photos_of(root)
    assert photos.image_ids == tuple(TRAIN)
    assert photos.labels.tolist() == [number % 3 for number in range(len(TRAIN))]
    assert photos.class_names == CLASS_NAMES
    assert photos.num_classes == 3
    for index in (0, 7):
        expected = picture(sum(TRAIN[index].encode()))
        np.testing.assert_array_equal(np.asarray(photos.read(index)), np.asarray(expected))


def test_a_zip_gives_what_the_folder_gives(root):
    from_folder = pixels(photos_of(root))
    with ZipFile(root / "all.zip", "w") as archive:
        for image_id in TRAIN:
            archive.write(root / "images" / image_id, image_id)
    shutil.rmtree(root / "images")
    photos = photos_of(root)
    assert pixels(photos) == from_folder
    assert sorted(path.name for path in root.iterdir()) == [
        "all.zip",
        "class_names.txt",
        "metadata",
    ]
    assert pixels(photos_of(root, images=str(root / "all.zip"))) == from_folder


def test_photos_can_be_sent_to_another_process_and_their_archives_opened_again(root):
    with ZipFile(root / "all.zip", "w") as archive:
        for image_id in TRAIN:
            archive.write(root / "images" / image_id, image_id)
    shutil.rmtree(root / "images")
    photos = photos_of(root)
    expected = pixels(photos)
    assert pixels(pickle.loads(pickle.dumps(photos))) == expected
    (archive,) = photos.datasets[0].images._archives
    inherited = archive.fp
    photos.reopen()
    assert archive.fp is not inherited
    inherited.close()
    assert pixels(photos) == expected


def test_photos_are_turned_upright(root):
    sideways = Image.new("RGB", (40, 20))
    exif = sideways.getexif()
    exif[0x0112] = 6
    sideways.save(root / "images" / TRAIN[0], exif=exif)
    assert photos_of(root).read(0).size == (20, 40)


def test_class_folders_are_numbered_by_name(folders):
    photos = opened(FolderSource(kind="folders", root=str(folders))).with_own_classes()
    assert photos.class_names == ("oak", "pine", "yew")
    labels = dict(zip(photos.image_ids, photos.labels.tolist(), strict=True))
    assert labels == {
        "train/oak/1.png": 0, "train/oak/more/2.png": 0, "train/pine/1.png": 1, "train/yew/1.jpg": 2
    }  # fmt: skip
    np.testing.assert_array_equal(
        np.asarray(photos.read(photos.image_ids.index("train/pine/1.png"))), np.asarray(picture(2))
    )


def test_class_folders_that_are_not_as_they_should_be_are_named(folders):
    source = FolderSource(kind="folders", root=str(folders))
    (folders / "larch").mkdir()
    with pytest.raises(FileNotFoundError, match="larch"):
        opened(source)
    (folders / "larch").rmdir()
    picture(5).save(folders / "stray.png")
    with pytest.raises(ValueError, match=r"1 photos outside its class folders.*stray\.png"):
        opened(source)
    with pytest.raises(ValueError, match="one class folder, train"):
        opened(FolderSource(kind="folders", root=str(folders.parent)))
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent"):
        opened(FolderSource(kind="folders", root=str(folders / "absent")))


def test_labels_become_the_classes_of_a_network_that_has_names(root):
    names = ("cedar", "oak", "ash", "birch")
    photos = opened(of_metadata(root)).for_network(4, names)
    assert [names[label] for label in photos.labels] == [
        CLASS_NAMES[number % 3] for number in range(len(TRAIN))
    ]
    assert photos.class_names == names
    with pytest.raises(ValueError, match=r"cedar is not one of the network's 2.*new classifier"):
        opened(of_metadata(root)).for_network(2, ("ash", "birch"))


def test_folders_named_by_wordnet_ids_become_imagenets_classes(folders):
    info = ImageNetInfo("imagenet-1k")
    for name, index in (("oak", 30), ("pine", 10), ("yew", 20)):
        (folders / name).rename(folders / info.label_names()[index])
    sources = opened(FolderSource(kind="folders", root=str(folders)))
    photos = sources.for_network(1000, info.label_descriptions())
    classes = {image_id.split("/")[1]: label for image_id, label in
               zip(photos.image_ids, photos.labels.tolist(), strict=True)}  # fmt: skip
    assert classes == {info.label_names()[index]: index for index in (10, 20, 30)}


def test_without_names_labels_are_the_networks_indices(root):
    (root / "class_names.txt").unlink()
    photos = photos_of(root)
    assert (photos.num_classes, photos.class_names) == (3, ())
    assert opened(of_metadata(root)).for_network(3, ()).labels.tolist() == photos.labels.tolist()
    with pytest.raises(ValueError, match="3 classes against 2"):
        opened(of_metadata(root)).for_network(2, ())


def test_a_split_of_a_label_too_many_is_refused(root):
    (root / "class_names.txt").write_text("0,ash\n1,birch")
    with pytest.raises(ValueError, match=r"go up to 2, but class_names\.txt names only 2"):
        photos_of(root)


def test_sources_are_joined_in_their_order(root, folders):
    for old, new in zip(("oak", "pine", "yew"), CLASS_NAMES, strict=True):
        (folders / old).rename(folders / new)
    photos = opened(
        of_metadata(root), FolderSource(kind="folders", root=str(folders))
    ).with_own_classes()
    assert photos.image_ids[: len(TRAIN)] == tuple(f"trees/{image}" for image in TRAIN)
    assert photos.image_ids[len(TRAIN)] == "woods/train/ash/1.png"
    assert photos.labels[len(TRAIN) :].tolist() == [0, 0, 1, 2]
    np.testing.assert_array_equal(np.asarray(photos.read(len(TRAIN))), np.asarray(picture(0)))


def test_joined_sources_agree_on_their_classes_or_all_match_the_network(root, folders):
    sources = opened(of_metadata(root), FolderSource(kind="folders", root=str(folders)))
    with pytest.raises(ValueError, match=r"class 0 is 'ash' there, and 'oak' here"):
        sources.with_own_classes()
    names = ("ash", "birch", "cedar", "oak", "pine", "yew")
    photos = sources.for_network(6, names)
    assert photos.labels[len(TRAIN) :].tolist() == [3, 3, 4, 5]
    with pytest.raises(ValueError, match="oak is not one of the network's 3"):
        sources.for_network(3, CLASS_NAMES)


def test_what_is_measured_on_has_the_networks_classes(root, folders):
    data = DataConfig(
        train=(FolderSource(kind="folders", root=str(folders)),),
        validation=of_metadata(root, split="val"),
    )
    with pytest.raises(ValueError, match=r"trees/val .*: ash is not one .* Take for data\.validat"):
        open_sources(data).with_own_classes()


def test_a_mistyped_split_or_folder_is_told_with_what_there_is(root):
    with pytest.raises(FileNotFoundError, match=r"no image_ids\.txt .* Splits here: train, val\."):
        photos_of(root, split="trian")
    with pytest.raises(FileNotFoundError, match=r"There is no data folder .*/tress\."):
        photos_of(root.with_name("tress"))
    with pytest.raises(FileNotFoundError, match=r"Say where they are with images \("):
        photos_of(root, images=str(root / "metadata"))


def test_a_photo_is_named_once(root):
    with pytest.raises(ValueError, match=r"13 photos of trees/train, such as train/00\.png"):
        opened(of_metadata(root), of_metadata(root))


@pytest.mark.parametrize("split", ["val", "train+val"])
def test_a_split_with_boxes_is_not_trained_on(root, split):
    with pytest.raises(
        ValueError, match=r"The split 'val' of .*localization\.txt.*evaluation only"
    ):
        opened(of_metadata(root, split=split))


@pytest.mark.parametrize("split", ["train", "train-weaksup"])
def test_the_boxes_of_a_split_for_training_are_not_read(root, split):
    folder = root / "metadata" / split
    if split != "train":
        shutil.copytree(root / "metadata" / "train", folder)
    (folder / "localization.txt").write_text("these, are, no boxes")
    (folder / "masks.txt").write_text(f"{TRAIN[0]},absent.png,\n")
    for source in ({"root": str(root)}, {"root": str(root), "metadata": str(folder)}):
        data = DataConfig(train=(MetadataSource(split=split, **source),))
        (dataset,) = open_sources(data).datasets
        assert list(dataset.metadata.image_ids) == TRAIN
        assert not dataset.metadata.boxes and not dataset.metadata.masks


def test_another_split_is_not_trained_on_under_the_name_of_one_for_training(root):
    for split in ("test", "train-fullsup"):
        write_split(root, split, TRAIN[:2], boxes=True)
    with pytest.raises(ValueError, match=r"The split 'train-fullsup' of .*localization\.txt"):
        opened(of_metadata(root, split="train-fullsup"))
    held_out = str(root / "metadata" / "test")
    with pytest.raises(
        ValueError, match=r"test/localization\.txt\), which are for evaluation only"
    ):
        opened(of_metadata(root, split="train", metadata=held_out))


def test_a_split_with_masks_is_not_trained_on_even_where_no_mask_is_there(root):
    write_split(root, "train-fullsup", TRAIN[:2])
    truth = root / "metadata" / "train-fullsup" / "masks.txt"
    truth.write_text(f"{TRAIN[0]},absent.png,\n")
    with pytest.raises(ValueError, match=r"'train-fullsup'.*masks\.txt.*a folder of their own"):
        opened(of_metadata(root, split="train-fullsup"))


def test_what_the_refusal_advises_works(root):
    copied = root / "labels"
    copied.mkdir()
    for name in ("image_ids.txt", "class_labels.txt"):
        shutil.copy(root / "metadata" / "val" / name, copied)
    photos = photos_of(root, split="val", metadata=str(copied))
    assert len(photos) == 2


def test_what_is_measured_on_is_not_trained_on(root):
    validation = of_metadata(root, split="val")
    assert opened(of_metadata(root), validation=validation).validation.name == "trees/val"
    write_split(root, "both", [*TRAIN[:2], "val/b.png"])
    with pytest.raises(ValueError, match=r"1 photos of trees/both, such as val/b\.png.*trees/val"):
        opened(of_metadata(root, split="both"), validation=validation)


def test_class_folders_in_the_measured_data_are_known_as_such(root, folders):
    write_split(folders.parent, "val", ["train/oak/1.png"], boxes=True)
    with pytest.raises(ValueError, match=r"such as train/oak/1\.png"):
        opened(
            FolderSource(kind="folders", root=str(folders)),
            validation=of_metadata(folders.parent, split="val"),
        )


def test_shards_and_named_photos_are_not_joined(root):
    shards = ShardSource(kind="webdataset", shards="a.tar", num_images=5, class_names=CLASS_NAMES)
    with pytest.raises(ValueError, match="one kind"):
        opened(of_metadata(root), shards)
