from __future__ import annotations

import re

import numpy as np
import pytest

from wsolviz.evaluation import Metadata, read_metadata
from wsolviz.evaluation.metadata import MaskFiles, join

BOXES = {
    "image_ids.txt": "val/a.jpg\nval/b.jpg\n",
    "class_labels.txt": "val/a.jpg,7\nval/b.jpg,0\n",
    "image_sizes.txt": "val/a.jpg,500,375\nval/b.jpg,64,80\n",
    "localization.txt": "val/a.jpg,0,10,499,374\nval/b.jpg,3,4,3,4\nval/a.jpg,5,6,70,80\n",
}
MASKS = {
    "image_ids.txt": "val/a.jpg\nval/b.jpg\n",
    "class_labels.txt": "val/a.jpg,7\nval/b.jpg,0\n",
    "localization.txt": "val/a.jpg,a1.png,a_ignore.png\nval/b.jpg,b1.png,\nval/a.jpg,a2.png,\n",
}
MASK_FILES = {
    "val/a.jpg": MaskFiles(("a1.png", "a2.png"), "a_ignore.png"),
    "val/b.jpg": MaskFiles(("b1.png",), ""),
}


@pytest.fixture
def write(tmp_path):
    """Write a split, with some files' text replaced, or left out where the text is None."""

    def write_files(split, **replaced):
        changed = {f"{name}.txt": text for name, text in replaced.items()}
        for name, text in {**split, **changed}.items():
            if text is not None:
                (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write_files


def boxes_of(metadata: Metadata) -> dict[str, list[list[int]]]:
    assert all(boxes.dtype == np.int64 for boxes in metadata.boxes.values())
    return {image: boxes.tolist() for image, boxes in metadata.boxes.items()}


def test_a_split_with_boxes(write):
    metadata = read_metadata(write(BOXES))
    assert metadata.image_ids == ("val/a.jpg", "val/b.jpg")
    assert metadata.class_labels == {"val/a.jpg": 7, "val/b.jpg": 0}
    assert metadata.image_sizes == {"val/a.jpg": (500, 375), "val/b.jpg": (64, 80)}
    assert boxes_of(metadata) == {
        "val/a.jpg": [[0, 10, 499, 374], [5, 6, 70, 80]],
        "val/b.jpg": [[3, 4, 3, 4]],
    }
    assert metadata.masks == {}


@pytest.mark.parametrize("truth", [None, "", "not read at all"])
def test_labels_alone_need_no_boxes(write, truth):
    metadata = read_metadata(write(BOXES, localization=truth, image_sizes=truth), localized=False)
    assert metadata.image_ids == ("val/a.jpg", "val/b.jpg")
    assert metadata.class_labels == {"val/a.jpg": 7, "val/b.jpg": 0}
    assert metadata.boxes == metadata.masks == metadata.image_sizes == {}
    with pytest.raises(ValueError, match="class label"):
        read_metadata(write(BOXES, class_labels="val/a.jpg,7"), localized=False)


@pytest.mark.parametrize("sizes", [None, "", "not read at all"])
def test_a_split_of_masks_alone_needs_no_sizes(write, sizes):
    metadata = read_metadata(write(MASKS, image_sizes=sizes))
    assert metadata.class_labels == {"val/a.jpg": 7, "val/b.jpg": 0}
    assert metadata.masks == MASK_FILES
    assert metadata.boxes == metadata.image_sizes == {}


def test_masks_beside_boxes_in_a_file_of_their_own(write):
    metadata = read_metadata(write(BOXES, masks=MASKS["localization.txt"]))
    assert boxes_of(metadata) == boxes_of(read_metadata(write(BOXES)))
    assert metadata.masks == MASK_FILES


def test_boxes_and_masks_in_one_file(write):
    both = BOXES["localization.txt"] + MASKS["localization.txt"]
    metadata = read_metadata(write(BOXES, localization=both))
    assert len(metadata.boxes["val/a.jpg"]) == 2
    assert metadata.masks == MASK_FILES


def test_one_image_with_a_box_and_another_with_a_mask(write):
    replaced = {"localization": "val/a.jpg,1,2,3,4\n", "masks": "val/b.jpg,b1.png,\n"}
    metadata = read_metadata(write(BOXES, **replaced, image_sizes="val/a.jpg,9,9"))
    assert list(metadata.boxes) == list(metadata.image_sizes) == ["val/a.jpg"]
    assert list(metadata.masks) == ["val/b.jpg"]
    with pytest.raises(ValueError, match=r"no size: val/a\.jpg"):
        read_metadata(write(BOXES, **replaced, image_sizes="val/b.jpg,9,9"))


def test_instances_of_both_files_are_of_one_image(write):
    metadata = read_metadata(write(MASKS, masks="val/b.jpg,b2.png,\nval/b.jpg,b3.png,\n"))
    assert metadata.masks["val/b.jpg"] == MaskFiles(("b1.png", "b2.png", "b3.png"))
    assert metadata.masks["val/a.jpg"] == MASK_FILES["val/a.jpg"]


def test_images_keep_their_order_and_empty_lines_and_spaces_mean_nothing(write):
    metadata = read_metadata(
        write(
            BOXES,
            image_ids="\n val/b.jpg \n\n  \nval/a.jpg",
            class_labels="val/a.jpg , 7\n\nval/b.jpg, 0\n",
            image_sizes="val/b.jpg,64,80\r\nval/a.jpg,500,375\r\n",
        )
    )
    assert metadata.image_ids == ("val/b.jpg", "val/a.jpg")
    assert metadata.class_labels == {"val/a.jpg": 7, "val/b.jpg": 0}
    assert metadata.image_sizes["val/a.jpg"] == (500, 375)


def test_labels_sizes_and_boxes_of_other_images_do_no_harm(write):
    metadata = read_metadata(write(BOXES, image_ids="val/b.jpg"))
    assert metadata.image_ids == ("val/b.jpg",)


def test_no_folder(tmp_path):
    for absent in (tmp_path / "absent", str(tmp_path / "absent")):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no metadata folder {absent}")):
            read_metadata(absent)
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="no metadata folder"):
        read_metadata(tmp_path / "file")


@pytest.mark.parametrize("name", BOXES)
def test_a_file_that_is_not_there_is_named(write, name):
    folder = write({file: text for file, text in BOXES.items() if file != name})
    with pytest.raises(FileNotFoundError) as raised:
        read_metadata(folder)
    assert str(raised.value).startswith(f"There is no {name} in {folder};")
    assert all(file in str(raised.value) for file in BOXES)


# the file, its text, the number of the wrong line, and what is said of it
WRONG_LINES = [
    ("image_ids", "val/a.jpg\nval/b.jpg,1", 2, "it has 2 fields instead of 1"),
    ("class_labels", "val/a.jpg,7\n\nval/b.jpg", 3, "it has 1 fields instead of 2"),
    ("class_labels", "val/a.jpg,7,7\n", 1, "it has 3 fields instead of 2"),
    ("class_labels", "val/a.jpg,cat\n", 1, "'cat' is not a whole number"),
    ("class_labels", "val/a.jpg,7\nval/b.jpg,\n", 2, "'' is not a whole number"),
    ("class_labels", "val/a.jpg,7\nval/b.jpg,1.0\n", 2, "'1.0' is not a whole number"),
    ("image_sizes", "val/a.jpg,500\n", 1, "it has 2 fields instead of 3"),
    ("image_sizes", "val/a.jpg,500,375\nval/b.jpg,64,80,3", 2, "it has 4 fields instead of 3"),
    ("image_sizes", "\nval/a.jpg,500px,375\n", 2, "'500px' is not a whole number"),
    ("image_sizes", "val/a.jpg,500,1e2\n", 1, "'1e2' is not a whole number"),
    ("image_sizes", "val/a.jpg,0,375\n", 1, "a size is WIDTH,HEIGHT, at least 1 each"),
    ("image_sizes", "val/a.jpg,500,-1\n", 1, "a size is WIDTH,HEIGHT, at least 1 each"),
    ("localization", "val/a.jpg,0,0,9\n", 1, "it has 4 fields instead of 5 or 3"),
    ("localization", "val/a.jpg,0,0,9,9\nval/b.jpg\n", 2, "it has 1 fields instead of 5 or 3"),
    ("localization", "val/a.jpg,0,0,9,9,1\n", 1, "it has 6 fields instead of 5 or 3"),
    ("localization", "val/a.jpg,x,0,9,9\n", 1, "'x' is not a whole number"),
    ("localization", "val/a.jpg,0,,9,9\n", 1, "'' is not a whole number"),
    ("localization", "val/a.jpg,0,0,nan,9\n", 1, "'nan' is not a whole number"),
    ("localization", "val/a.jpg,0,0,9,9.5\n", 1, "'9.5' is not a whole number"),
    ("localization", "val/a.jpg,9,0,8,9\n", 1, "a box is X0,Y0,X1,Y1 with X0 <= X1 and Y0 <= Y1"),
    (
        "localization",
        "val/a.jpg,0,0,9,9\nval/b.jpg,0,9,9,8\n",
        2,
        "a box is X0,Y0,X1,Y1 with X0 <= X1 and Y0 <= Y1",
    ),
    ("localization", "val/a.jpg,,a_ignore.png\n", 1, "it names no mask"),
    (
        "localization",
        "val/a.jpg,a1.png,i1.png\nval/a.jpg,a2.png,i2.png\n",
        2,
        "the ignored regions stand on the first line of an image alone",
    ),
    (
        "localization",
        "val/a.jpg,a1.png,\nval/b.jpg,b1.png,i.png\nval/a.jpg,a2.png,i.png\n",
        3,
        "the ignored regions stand on the first line of an image alone",
    ),
    ("masks", "val/a.jpg,a1.png\n", 1, "it has 2 fields instead of 3"),
    ("masks", "val/a.jpg,a1.png,\nval/a.jpg,0,0,9,9\n", 2, "it has 5 fields instead of 3"),
    ("masks", "val/a.jpg,a1.png,\n\nval/a.jpg,,\n", 3, "it names no mask"),
    (
        "masks",
        "val/a.jpg,a1.png,i.png\nval/a.jpg,a2.png,i.png\n",
        2,
        "the ignored regions stand on the first line of an image alone",
    ),
]


@pytest.mark.parametrize(("name", "text", "number", "why"), WRONG_LINES)
def test_a_wrong_line_is_named_by_file_and_number_and_shown(write, name, text, number, why):
    folder = write(BOXES, **{name: text})
    line = text.split("\n")[number - 1]
    with pytest.raises(ValueError, match="line") as raised:
        read_metadata(folder)
    assert str(raised.value) == f"{folder / name}.txt, line {number} ({line}): {why}."


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_image(write, text):
    folder = write(BOXES, image_ids=text)
    with pytest.raises(ValueError, match=re.escape(f"{folder / 'image_ids.txt'} names no image")):
        read_metadata(folder)


@pytest.mark.parametrize(
    ("replaced", "what"),
    [
        ({"class_labels": "val/a.jpg,7"}, "class label"),
        ({"localization": "val/a.jpg,0,0,9,9"}, "box or mask"),
        ({"localization": "val/a.jpg,a.png,"}, "box or mask"),
        ({"image_sizes": "val/a.jpg,500,375"}, "size"),
    ],
)
def test_an_image_that_lacks_something_is_named(write, replaced, what):
    folder = write(BOXES, **replaced)
    with pytest.raises(ValueError, match="have no") as raised:
        read_metadata(folder)
    assert str(raised.value) == f"1 of 2 images in {folder} have no {what}: val/b.jpg."


@pytest.mark.parametrize(
    ("count", "listed"), [(3, "0.jpg, 1.jpg, 2.jpg."), (4, "0.jpg, 1.jpg, 2.jpg, ….")]
)
def test_of_many_images_that_lack_something_three_are_named(write, count, listed):
    names = "\n".join(f"{i}.jpg" for i in range(count))
    folder = write(BOXES, image_ids=names)
    with pytest.raises(ValueError, match="have no class label") as raised:
        read_metadata(folder)
    assert str(raised.value).startswith(f"{count} of {count} images in")
    assert str(raised.value).endswith(f"class label: {listed}")


def test_resized_boxes_are_cut_off_to_whole_pixels_corner_by_corner():
    rng = np.random.default_rng(0)
    for width, height in rng.integers(1, 4000, (200, 2)).tolist():
        corners = rng.integers(0, [width, height], (5, 2, 2))
        boxes = np.sort(corners, axis=1).reshape(5, 4)
        boxes[0] = 0, 0, width, height  # some data sets go one past the last pixel
        to_height, to_width = (224, 224) if width % 2 else rng.integers(1, 999, 2).tolist()
        metadata = Metadata(("a",), {"a": 0}, {"a": (width, height)}, {"a": boxes})
        resized = metadata.resized_boxes("a", (to_height, to_width))
        assert resized.dtype == np.int64
        for box, new in zip(boxes.tolist(), resized.tolist(), strict=True):
            x0, y0, x1, y1 = map(float, box)
            assert new == [
                int(x0 * to_width / width),
                int(y0 * to_height / height),
                int(x1 * to_width / width),
                int(y1 * to_height / height),
            ]


def test_boxes_of_an_image_of_the_maps_size_stay():
    boxes = np.array([[0, 0, 223, 111], [7, 8, 9, 10]])
    metadata = Metadata(("a",), {"a": 0}, {"a": (224, 112)}, {"a": boxes})
    np.testing.assert_array_equal(metadata.resized_boxes("a", (112, 224)), boxes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("image_ids", "val/a.jpg\nval/a.jpg\n", "line 2 .*the image is on line 1 already"),
        ("class_labels", "val/a.jpg,1\nval/a.jpg,2\n", "line 2 .*the image is on line 1 already"),
        ("class_labels", "val/a.jpg,-1\nval/b.jpg,1\n", "line 1 .*a class is an index from 0"),
        ("class_labels", "val/a.jpg,1_0\nval/b.jpg,1\n", "'1_0' is not a whole number"),
        ("localization", "val/a.jpg,0,0,9,99999999999999999999\n", "is not a whole number"),
    ],
)
def test_what_would_be_read_in_two_ways_is_refused(split, name, text, message):
    (split / f"{name}.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_metadata(split)


def test_a_byte_order_mark_is_no_part_of_a_name(split):
    path = split / "image_ids.txt"
    expected = read_metadata(split)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_metadata(split).image_ids == expected.image_ids
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"image_ids.txt is not UTF-8 text"):
        read_metadata(split)


def test_splits_are_joined_in_their_order(split, tmp_path):
    one = read_metadata(split)
    assert join([one]).image_ids == one.image_ids
    other = Metadata(("z",), {"z": 3}, {"z": (9, 9)}, {"z": np.array([[0, 0, 1, 1]])})
    both = join([one, other])
    assert both.image_ids == (*one.image_ids, "z")
    assert both.class_labels == {**one.class_labels, "z": 3}
    assert both.boxes["z"].tolist() == [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match="is in two of the splits"):
        join([one, one])


@pytest.fixture
def split(write):
    return write(BOXES)


@pytest.mark.parametrize("box", ["-1,0,9,9", "0,-1,9,9", "500,0,500,9", "0,375,9,375", "0,0,501,9"])
def test_a_box_outside_its_image_is_refused(split, box):
    path = split / "localization.txt"
    path.write_text(f"{path.read_text()}val/a.jpg,{box}\n")
    with pytest.raises(ValueError, match=r"a box of val/a.jpg .* lies outside its 500×375 pixels"):
        read_metadata(split)


def test_a_box_may_end_at_the_size_itself(split):
    path = split / "localization.txt"
    path.write_text(f"{path.read_text()}val/a.jpg,0,0,500,375\n")
    assert read_metadata(split).boxes["val/a.jpg"][-1].tolist() == [0, 0, 500, 375]
