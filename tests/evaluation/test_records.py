"""What a run keeps of an image, the journal that outlives a process, and reading it again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wsolviz.evaluation.box_metrics import ScoremapBoxes
from wsolviz.evaluation.records import ImageRecord, Journal, MethodRecord, Records, conflict

SETTINGS = {"data": "set/test", "methods": ["cam"], "scales": (128, 160), "flip": False}


def scored(seed, boxes=True, masks=True):
    """A method's record of a random map."""
    rng = np.random.default_rng(seed)
    curves = largest = histograms = None
    if boxes:
        found = ScoremapBoxes.of(rng.random((20, 30)) ** 3)
        curves = found.curves(np.array([[2, 3, 20, 15], [0, 0, 5, 5]]))
        largest = found.boxes["largest"]
    if masks:
        histograms = rng.integers(0, 2**40, (2, 1002))
    return MethodRecord(curves, largest, histograms)


RECORDS = [
    ImageRecord(
        3,
        "a/ü, 'x'.jpg",
        label=7,
        explained=7,
        top=(7, 999, 0, 3, 2),
        probability=0.1 + 0.2,
        methods={"cam": scored(0), "cam+0.5*pc1": scored(1, masks=False)},
    ),
    ImageRecord(0, "b.jpg", methods={"maps": scored(2, boxes=False), "none": MethodRecord()}),
    ImageRecord(12, "c.jpg", explained=1, top=(1, 2), methods={"cam": scored(3)}),
    ImageRecord(2, "d.jpg", failure="There is no photo d.jpg.\nNowhere."),
]


def assert_same(record, other):
    for name in ("index", "image_id", "label", "explained", "top", "probability", "failure"):
        assert getattr(record, name) == getattr(other, name)
        assert type(getattr(record, name)) is type(getattr(other, name))
    assert list(record.methods) == list(other.methods)
    for one, two in zip(record.methods.values(), other.methods.values(), strict=True):
        assert (one.curves is None) == (two.curves is None)
        assert (one.largest is None) == (two.largest is None)
        assert (one.histograms is None) == (two.histograms is None)
        if one.curves is not None:
            assert one.curves.max_level == two.curves.max_level
            for policy in ("largest", "all"):
                assert_equal_arrays(one.curves.best[policy], two.curves.best[policy])
            assert_equal_arrays(one.largest.intervals, two.largest.intervals)
            for level in range(256):
                np.testing.assert_array_equal(one.largest[level], two.largest[level])
        if one.histograms is not None:
            assert_equal_arrays(one.histograms, two.histograms)


def assert_equal_arrays(one, two):
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.image_id[0])
def test_a_record_goes_through_json_and_comes_back_exactly(record):
    line = json.dumps(record.to_json())
    assert "\n" not in line
    assert_same(ImageRecord.from_json(json.loads(line)), record)


def test_a_record_keeps_what_thresholds_ask_for():
    thresholds = np.arange(0, 1, 0.001)
    record = RECORDS[0]
    back = ImageRecord.from_json(json.loads(json.dumps(record.to_json())))
    for name, found in record.methods.items():
        for policy in ("largest", "all"):
            expected = [
                found.curves.best[policy][int(t * found.curves.max_level)] for t in thresholds
            ]
            assert back.methods[name].curves.at(thresholds, policy).tolist() == expected


@pytest.mark.parametrize(
    ("label", "top", "counts"),
    [
        (7, (7, 1, 2), [1, 2, 3]),
        (2, (7, 1, 2), [3]),
        (9, (7, 1, 2), []),
        (None, (7, 1, 2), []),
        (7, (), []),
    ],
)
def test_a_label_is_among_the_best_classes(label, top, counts):
    record = ImageRecord(0, "a", label=label, top=top)
    assert [count for count in (1, 2, 3) if record.is_among(count)] == counts


def failed(index, text="broken"):
    """A record with a short line."""
    return ImageRecord(index, f"{index}.jpg", failure=text)


def write(folder, rank, records, settings=SETTINGS):
    journal = Journal(folder, rank, settings)
    for record in records:
        journal.write(record)
    journal.close()
    return journal.path


def indices(folder, count):
    """Of the images with a record, and the images that the records are of."""
    records = Records(folder, np.ones(count, bool))
    assert [record.index for record in records] == records.indices.tolist()
    return records.indices.tolist()


def test_a_journal_goes_on_wherever_it_was_torn(tmp_path):
    whole = write(tmp_path / "whole", 0, [failed(i) for i in range(3)]).read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == 4
    for cut in range(len(whole) + 1):
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / "records-0.jsonl").write_bytes(whole[:cut])
        done = max(0, sum(end <= cut for end in ends) - 1)
        if cut >= ends[0]:
            assert indices(folder, 3) == list(range(done)), "a torn line is no record"
        path = write(folder, 0, [failed(i) for i in range(done, 3)])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("length", [1, 65535, 65536, 65537, 200_000])
def test_a_torn_line_may_be_of_any_length(tmp_path, length):
    path = write(tmp_path, 0, [failed(0), failed(1, "x" * length)])
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"index": 2, "image_id": "' + b"y" * length)
    assert indices(tmp_path, 3) == [0, 1]
    Journal(tmp_path, 0, SETTINGS).close()
    assert path.read_bytes() == whole


def test_settings_that_were_torn_are_written_again(tmp_path):
    path = tmp_path / "records-0.jsonl"
    path.write_bytes(b'{"data": "set/te')
    write(tmp_path, 0, [failed(1)])
    assert json.loads(path.read_text().splitlines()[0]) == {**SETTINGS, "scales": [128, 160]}
    assert indices(tmp_path, 2) == [1]


def test_the_same_settings_go_on(tmp_path):
    write(tmp_path, 0, [failed(0)])
    write(tmp_path, 0, [failed(1)], {**dict(reversed(SETTINGS.items())), "scales": [128, 160]})
    assert indices(tmp_path, 2) == [0, 1]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"flip": True}, "flip: False there, True now"),
        ({"methods": ["cam", "pc1"]}, "methods: ['cam'] there, ['cam', 'pc1'] now"),
        ({"new": 1}, "new: None there, 1 now"),
        ({"scales": ()}, "scales: [128, 160] there, [] now"),
    ],
)
def test_other_settings_are_refused_and_named(tmp_path, changed, told):
    path = write(tmp_path, 0, [failed(0)])
    before = path.read_bytes()
    refusal = conflict(tmp_path, {**SETTINGS, **changed})
    assert "other settings" in refusal
    assert told in refusal
    assert str(tmp_path) in refusal
    assert "--force" in refusal
    assert path.read_bytes() == before
    assert conflict(tmp_path, SETTINGS) == ""


def test_a_setting_that_is_gone_is_refused_and_named(tmp_path):
    write(tmp_path, 0, [])
    fewer = {name: value for name, value in SETTINGS.items() if name != "flip"}
    assert "flip: False there, None now" in conflict(tmp_path, fewer)


def test_another_process_s_journal_of_other_settings_is_a_conflict_too(tmp_path):
    write(tmp_path, 0, [])
    (tmp_path / "records-1.jsonl").write_text('{"flip": tr')  # killed while it was begun
    assert conflict(tmp_path, SETTINGS) == ""
    Journal(tmp_path, 2, {**SETTINGS, "flip": True}).close()
    assert "flip: True there, False now" in conflict(tmp_path, SETTINGS)


def test_what_was_flushed_is_there_for_others(tmp_path):
    journal = Journal(tmp_path, 0, SETTINGS)
    for i in range(3):
        journal.write(failed(i))
        journal.flush()
        assert indices(tmp_path, 5) == list(range(i + 1))
    journal.close()


def test_records_of_several_journals_come_once_and_by_rising_index(tmp_path):
    rng = np.random.default_rng(0)
    order = rng.permutation(60)
    for rank, share in enumerate(np.array_split(order, 11)):
        write(tmp_path, rank, [failed(int(i)) for i in share])
    write(tmp_path, 2, [failed(int(i)) for i in order[:20]])  # some are there twice
    assert indices(tmp_path, 60) == list(range(60))
    records = Records(tmp_path, np.ones(60, bool))
    assert [r.image_id for r in records] == [f"{i}.jpg" for i in range(60)]
    assert [r.image_id for r in records] == [f"{i}.jpg" for i in range(60)], "and again"
    assert [r.index for r in records.between(13, 40)] == list(range(13, 40))
    assert list(records.between(60, 99)) == []


def test_records_give_only_what_is_wanted_and_there(tmp_path):
    write(tmp_path, 0, [failed(9), failed(2), failed(4)])
    write(tmp_path, 1, [failed(5), failed(0)])
    wanted = np.zeros(10, bool)
    wanted[[1, 2, 5, 9]] = True
    records = Records(tmp_path, wanted)
    assert records.indices.tolist() == [2, 5, 9]
    assert [record.index for record in records] == [2, 5, 9]
    assert [record.index for record in records.between(3, 9)] == [5]


def test_records_pass_over_the_torn_line_of_another_process(tmp_path):
    write(tmp_path, 0, [failed(0)])
    path = write(tmp_path, 1, [failed(1), failed(2)])
    path.write_bytes(path.read_bytes()[:-1])
    assert indices(tmp_path, 3) == [0, 1]
    write(tmp_path, 0, [failed(2, "written again by the other")])
    (last,) = Records(tmp_path, np.array([False, False, True]))
    assert last.failure == "written again by the other"


def test_no_journal_no_records(tmp_path):
    assert indices(tmp_path, 4) == []
    assert indices(tmp_path / "absent", 4) == []


def test_records_in_full_come_back_out_of_a_journal(tmp_path):
    write(tmp_path, 0, RECORDS)
    found = list(Records(tmp_path, np.ones(13, bool)))
    for record, expected in zip(found, sorted(RECORDS, key=lambda r: r.index), strict=True):
        assert_same(record, expected)


def test_of_each_image_only_its_place_is_kept_in_memory(tmp_path):
    count = 500
    write(tmp_path, 0, [failed(i, "x" * 2000) for i in range(count)])
    kept = vars(Records(tmp_path, np.ones(count, bool)))
    arrays = [value for value in kept.values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) <= 16 * count
    others = [value for value in kept.values() if not isinstance(value, np.ndarray)]
    assert others == [[tmp_path / "records-0.jsonl"]]
