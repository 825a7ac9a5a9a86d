"""Opening a data set: where photos and metadata may lie, and which class is which."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from wsolviz.evaluation.classes import match_classes
from wsolviz.evaluation.dataset import Dataset, ImageFiles, open_dataset, splits_of
from wsolviz.evaluation.metadata import MaskFiles, Metadata

IDS = ("a/one.png", "a/two.png", "three.png")


def colour_of(image_id):
    return tuple(np.random.default_rng(list(image_id.encode())).integers(0, 256, 3).tolist())


def write_photos(folder, image_ids=IDS):
    for image_id in image_ids:
        path = folder / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), colour_of(image_id)).save(path)


def write_zip(path, image_ids=IDS, beside=None):
    """An archive of such photos, made in a folder beside it."""
    folder = beside or path.parent.parent / f"{path.stem} unpacked"
    write_photos(folder, image_ids)
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for image_id in image_ids:
            archive.write(folder / image_id, image_id)
    shutil.rmtree(folder)


def write_metadata(folder, image_ids=IDS, labels=(0, 1, 0)):
    folder.mkdir(parents=True, exist_ok=True)
    lines = {
        "image_ids": list(image_ids),
        "class_labels": [f"{i},{label}" for i, label in zip(image_ids, labels, strict=True)],
        "image_sizes": [f"{image},8,6" for image in image_ids],
        "localization": [f"{image},1,1,6,4" for image in image_ids],
    }
    for name, texts in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(texts))


def colours(dataset):
    """The colour of every photo that can be read."""
    photos = {image: dataset.images.read(image).image for image in dataset.metadata.image_ids}
    return {image: photo.getpixel((3, 3)) for image, photo in photos.items()}


RIGHT = {image_id: colour_of(image_id) for image_id in IDS}


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    write_metadata(root / "metadata" / "test")
    return root


def test_photos_lie_in_images_or_in_the_folder_itself_or_in_both(root):
    write_photos(root / "images", IDS[:1])
    write_photos(root, IDS[1:])
    dataset = open_dataset(root, "test")
    assert colours(dataset) == RIGHT
    assert dataset.name == "set/test"
    assert dataset.metadata.image_ids == IDS


def test_photos_are_read_out_of_zip_archives_that_stay_packed(root):
    write_zip(root / "first.zip", IDS[:2])
    write_zip(root / "second.zip", IDS[2:])
    files = sorted(root.rglob("*"))
    content = [(root / name).read_bytes() for name in ("first.zip", "second.zip")]
    assert colours(open_dataset(root, "test")) == RIGHT
    assert sorted(root.rglob("*")) == files
    assert [(root / name).read_bytes() for name in ("first.zip", "second.zip")] == content


def test_a_folder_comes_before_an_archive_and_an_archive_before_the_next(root, tmp_path):
    for name, shade in (("b.zip", "red"), ("c.zip", "green")):
        Image.new("RGB", (8, 6), shade).save(tmp_path / "photo.png")
        with ZipFile(root / name, "w") as archive:
            for image_id in IDS[:2]:
                archive.write(tmp_path / "photo.png", image_id)
    write_photos(root / "images", IDS[1:])
    red = {IDS[0]: (255, 0, 0)}
    assert colours(open_dataset(root, "test")) == {**RIGHT, **red}


def test_an_archive_may_be_read_by_several_threads_at_once(tmp_path):
    names = [f"{i}.png" for i in range(40)]
    (tmp_path / "set").mkdir()
    write_zip(tmp_path / "set" / "all.zip", names)
    files = ImageFiles([tmp_path / "set" / "all.zip"])
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda name: files.read(name).image.getpixel((0, 0)), names * 5))
    assert read == [colour_of(name) for name in names * 5]


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_photos_may_lie_elsewhere(root, tmp_path, packed):
    elsewhere = tmp_path / "else" / ("photos.zip" if packed else "photos")
    elsewhere.parent.mkdir()
    write_zip(elsewhere) if packed else write_photos(elsewhere)
    with pytest.raises(FileNotFoundError, match="--images"):
        open_dataset(root, "test")
    assert colours(open_dataset(root, "test", images=elsewhere)) == RIGHT
    assert colours(open_dataset(str(root), "test", images=str(elsewhere))) == RIGHT


def test_photos_elsewhere_are_searched_for_nowhere_else(root, tmp_path):
    write_photos(root / "images")
    write_photos(tmp_path / "else", IDS[:1])
    dataset = open_dataset(root, "test", images=tmp_path / "else")
    assert [image in dataset.images for image in IDS] == [True, False, False]


@pytest.mark.parametrize("place", ["metadata/test", "test", "."])
def test_metadata_may_lie_elsewhere(root, tmp_path, place):
    write_photos(root / "images")
    write_metadata(tmp_path / "else" / place, IDS[:2], (5, 6))
    dataset = open_dataset(root, "test", metadata=tmp_path / "else")
    assert dataset.metadata.class_labels == {IDS[0]: 5, IDS[1]: 6}
    assert dataset.name == "set/test"
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "absent"))):
        open_dataset(root, "test", metadata=tmp_path / "absent")


def test_splits_are_joined_in_the_order_in_which_they_are_named(root):
    write_photos(root / "images")
    write_metadata(root / "metadata" / "val", IDS[:1], (7,))
    write_metadata(root / "metadata" / "more", IDS[1:], (8, 9))
    joined = open_dataset(root, "more+val").metadata
    assert joined.image_ids == (*IDS[1:], IDS[0])
    assert joined.class_labels == dict(zip(IDS, (7, 8, 9), strict=True))
    assert {image: boxes.tolist() for image, boxes in joined.boxes.items()} == {
        image: [[1, 1, 6, 4]] for image in IDS
    }
    assert joined.image_sizes == dict.fromkeys(IDS, (8, 6))
    with pytest.raises(ValueError, match=r"a/one\.png is in two of the splits"):
        open_dataset(root, "val+test")
    with pytest.raises(FileNotFoundError, match="no metadata of 'tset'"):
        open_dataset(root, "val+tset")


def test_metadata_lie_in_metadata_split_or_in_split_or_in_the_folder(tmp_path):
    write_photos(tmp_path)
    places = (tmp_path, tmp_path / "test", tmp_path / "metadata" / "test")
    for count, place in enumerate(places, start=1):
        write_metadata(place, IDS[:count], (0,) * count)
        assert len(open_dataset(tmp_path, "test").metadata.image_ids) == count


def test_a_split_without_metadata_tells_which_there_are(root):
    write_photos(root / "images")
    write_metadata(root / "metadata" / "val")
    write_metadata(root / "metadata" / "train")
    (root / "metadata" / "train" / "localization.txt").unlink()
    assert splits_of(root) == ["test", "val"]
    with pytest.raises(FileNotFoundError, match=r"Splits here: test, val\.$") as raised:
        open_dataset(root, "tset")
    assert f"no metadata of 'tset' in {root}" in str(raised.value)
    assert splits_of(root, localized=False) == ["test", "train", "val"]
    with pytest.raises(FileNotFoundError, match=r"Splits here: test, train, val\.$"):
        open_dataset(root, "tset", localized=False)


def test_no_data_folder(tmp_path):
    for absent in (tmp_path / "absent", str(tmp_path / "absent")):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no data folder {absent}.")):
            open_dataset(absent, "test")


def test_not_one_photo_there_tells_where_they_were_searched_for(root):
    write_zip(root / "others.zip", ["other.png"])
    with pytest.raises(FileNotFoundError, match="Not one of the 3 photos of set/test") as raised:
        open_dataset(root, "test")
    for told in (IDS[0], root / "images", root / "others.zip", "--images"):
        assert str(told) in str(raised.value)


def test_one_photo_there_is_enough_and_the_others_are_missing_when_they_are_read(root):
    write_photos(root / "images", IDS[:1])
    images = open_dataset(root, "test").images
    assert images.read(IDS[0]).size == (8, 6)
    with pytest.raises(FileNotFoundError, match=f"no photo {IDS[1]}"):
        images.read(IDS[1])


def test_what_is_no_photo_is_named_when_it_is_read(root):
    write_photos(root / "images", IDS[:1])
    (root / "images" / IDS[1]).write_text("no photo")
    with ZipFile(root / "rest.zip", "w") as archive:
        archive.writestr(IDS[2], b"no photo")
    images = open_dataset(root, "test").images
    for image_id in IDS[1:]:
        with pytest.raises(ValueError, match=f"{image_id.rpartition('/')[2]} is not an image"):
            images.read(image_id)


def test_masks_lie_in_masks_where_there_is_such_a_folder(root):
    write_photos(root)
    assert open_dataset(root, "test").mask_root == root
    (root / "masks").mkdir()
    assert open_dataset(root, "test").mask_root == root / "masks"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, ()),
        ("", ()),
        ("0,tench, Tinca tinca\n1,goldfish\n", ("tench, Tinca tinca", "goldfish")),
        (
            "0,n01440764,tench, Tinca tinca\n1,n01443537,goldfish",
            ("tench, Tinca tinca", "goldfish"),
        ),
        (" 0 , tench \r\n1,n01443537, goldfish, carp ", ("tench", "goldfish, carp")),
        ("0,n01440764\n1,n1234567,short id", ("n01440764", "n1234567,short id")),
        ("0,Übergröße", ("Übergröße",)),
    ],
)
def test_class_names_with_and_without_wordnet_ids(root, text, names):
    write_photos(root)
    if text is not None:
        (root / "class_names.txt").write_text(text, encoding="utf-8", newline="")
    assert open_dataset(root, "test").class_names == names


@pytest.mark.parametrize(
    ("text", "line"),
    [("1,tench\n2,goldfish", 1), ("0,tench\n2,goldfish", 2), ("0,a\n\n1,b", 2), ("tench", 1)],
)
def test_class_names_out_of_order_are_named_by_line(root, text, line):
    write_photos(root)
    (root / "class_names.txt").write_text(text)
    with pytest.raises(ValueError, match=rf"class_names\.txt, line {line}: it should begin with"):
        open_dataset(root, "test")


def dataset_of(tmp_path, labels, class_names=()):
    ids = tuple(f"{i}.jpg" for i in range(len(labels)))
    truth = Metadata(ids, dict(zip(ids, labels, strict=True)))
    return Dataset(tmp_path / "set", "test", truth, ImageFiles([]), tmp_path, class_names)


NETWORK = ("tench", "goldfish", "shark", "cock", "hen")


@pytest.mark.parametrize(
    ("labels", "class_names", "network", "expected"),
    [
        # some of the network's classes, in another order
        ((0, 1, 2), ("hen", "tench", "shark"), NETWORK, [4, 0, 2]),
        ((1,), ("cock", "goldfish"), NETWORK, [3, 1]),
        # the very same list
        ((0, 4), NETWORK, NETWORK, [0, 1, 2, 3, 4]),
        # all of them in another order
        ((0, 4), NETWORK[::-1], NETWORK, [4, 3, 2, 1, 0]),
        # nobody tells the data set's names: its labels are the network's
        ((0, 4), (), NETWORK, [0, 1, 2, 3, 4]),
        ((0, 4), (), (), [0, 1, 2, 3, 4]),
        # nobody tells the network's
        ((0, 4), ("a", "b", "c", "d", "e"), (), [0, 1, 2, 3, 4]),
    ],
)
def test_classes_are_matched(tmp_path, labels, class_names, network, expected):
    dataset = dataset_of(tmp_path, labels, class_names)
    assert match_classes(dataset, 5, network) == expected


@pytest.mark.parametrize(
    ("labels", "class_names", "network", "told"),
    [
        ((0, 1), ("tench", "trout"), NETWORK, "trout is not one of the network's 5"),
        ((0, 7), (), NETWORK, "8 classes against 5."),
        ((0, 7), (), (), "8 classes against 5."),
        ((0, 1), ("tench", "shark"), (), "2 classes against 5."),
        ((0, 4), ("a", "b", "c", "d", "e"), NETWORK, "a is not one of the network's 5"),
        ((0, 1), ("hen", "crane"), ("hen", "crane", "cock", "crane", "owl"), "the name of 2 of"),
        ((0, 6), tuple("abcdefg"), NETWORK, "a is not one of the network's 5"),
    ],
)
def test_classes_that_the_network_does_not_have_are_refused(
    tmp_path, labels, class_names, network, told
):
    dataset = dataset_of(tmp_path, labels, class_names)
    with pytest.raises(ValueError, match="not those of this network") as raised:
        match_classes(dataset, 5, network)
    assert told in str(raised.value)
    assert "set/test" in str(raised.value)
    assert "explain the predicted class (in the command line --class-from prediction)" in str(
        raised.value
    )


def test_a_label_that_class_names_do_not_reach_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"go up to 2, but class_names.txt names only 2"):
        match_classes(dataset_of(tmp_path, (0, 2), ("tench", "hen")), 5, NETWORK)


def test_wordnet_ids_tell_imagenet_s_two_cranes_apart(tmp_path):
    names = tuple(ImageNetInfo("imagenet-1k").label_descriptions())
    assert names.count("crane") == 2
    ids = ("n03126707", "n02012849")  # the machine, the bird
    truth = Metadata(("a", "b"), {"a": 0, "b": 1})
    dataset = Dataset(tmp_path, "test", truth, ImageFiles([]), tmp_path, ("crane", "crane"), ids)
    assert match_classes(dataset, 1000, names) == [517, 134]


def test_the_digest_is_of_all_ground_truth_and_of_nothing_else(tmp_path):
    def digest(folder="a", **changed):
        parts = {
            "image_ids": ("x", "y"),
            "class_labels": {"x": 0, "y": 1},
            "image_sizes": {"x": (8, 8), "y": (9, 9)},
            "boxes": {"x": np.array([[0, 1, 2, 3]]), "y": np.array([[0, 1, 2, 3], [1, 1, 2, 2]])},
            "masks": {"x": MaskFiles(("m.png",), "i.png")},
        }
        truth = Metadata(**{**parts, **changed})
        return Dataset(tmp_path / folder, "test", truth, ImageFiles([]), tmp_path).digest

    assert digest() == digest("b") == digest(class_labels={"y": 1, "x": 0})
    others = [
        digest(image_ids=("y", "x")),
        digest(class_labels={"x": 1, "y": 1}),
        digest(image_sizes={"x": (8, 8), "y": (9, 8)}),
        digest(boxes={"x": np.array([[0, 1, 2, 4]]), "y": np.array([[0, 1, 2, 3], [1, 1, 2, 2]])}),
        digest(boxes={"x": np.array([[0, 1, 2, 3]])}),
        digest(masks={"x": MaskFiles(("m.png", "n.png"), "i.png")}),
        digest(masks={"x": MaskFiles(("m.png",))}),
        digest(masks={}),
    ]
    assert len({digest(), *others}) == 1 + len(others)


def test_a_damaged_member_is_an_error_of_its_photo_alone(tmp_path):
    write_photos(tmp_path / "photos")
    with ZipFile(tmp_path / "set.zip", "w") as archive:
        for image_id in IDS:
            archive.write(tmp_path / "photos" / image_id, image_id)
    content = bytearray((tmp_path / "set.zip").read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    (tmp_path / "set.zip").write_bytes(content)
    files = ImageFiles([tmp_path / "set.zip"])
    with pytest.raises(ValueError, match="cannot be taken out of its archive"):
        files.read(IDS[0])
    assert files.read(IDS[1]).size == (8, 6)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "photos.zip").write_text("no archive")
    with pytest.raises(ValueError, match=r"photos.zip is not a .zip archive"):
        ImageFiles([tmp_path / "photos.zip"])
