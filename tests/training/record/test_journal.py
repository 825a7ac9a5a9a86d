"""The journal and the scalars: what was written is read, whatever cut the writing off."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest
from pydantic import ValidationError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.record.conftest import record_of
from training.record.epoch import EpochRecord, Loss, Validation, best_epoch, total
from training.record.journal import Journal
from training.record.scalars import Scalars


@pytest.fixture
def journal(tmp_path: Path, records: list[EpochRecord]) -> Journal:
    written = Journal(tmp_path / "run" / "journal.jsonl")
    for record in records:
        written.append(record)
    return written


def test_what_was_appended_is_read_by_any_reader_of_json_lines(
    journal: Journal, records: list[EpochRecord]
) -> None:
    assert Journal(journal.path).records() == records
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [line["epochs_done"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[3]["validation"]["methods"]["cam"]["MaxBoxAccV2"]["value"] == 66.75
    assert lines[3]["losses"]["sim"] == {"value": -0.75, "weight": 0.5}


def test_a_file_that_is_not_there_is_an_empty_journal(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl").records() == []


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_dropped_and_written_again(
    journal: Journal, records: list[EpochRecord], kept: int
) -> None:
    *whole, last = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(whole) + last[:kept])
    assert journal.records() == records[:-1]
    journal.append(records[-1])
    assert journal.records() == records
    assert journal.path.read_bytes() == b"".join(whole) + last


def write_forever(path: Path) -> None:
    for epoch in range(10**6):
        Journal(path).append(record_of(epoch, 60.0))


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    process = multiprocessing.get_context("fork").Process(target=write_forever, args=[path])
    process.start()
    while not path.is_file() or path.stat().st_size < 10_000:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    records = Journal(path).records()
    assert len(records) >= 5
    assert records == [record_of(epoch, 60.0) for epoch in range(len(records))]


def test_a_resumed_run_forgets_what_lies_behind_its_checkpoint(
    journal: Journal, records: list[EpochRecord]
) -> None:
    assert journal.resume(2) == records[:3]
    again = record_of(3, 70.5)
    journal.append(again)
    assert journal.records() == [*records[:3], again]
    before = journal.path.read_bytes()
    assert journal.resume(3) == [*records[:3], again]
    assert journal.path.read_bytes() == before
    assert list(journal.path.parent.iterdir()) == [journal.path]


def test_a_broken_line_in_the_middle_is_named(journal: Journal) -> None:
    lines = journal.path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"steps":14', '"steps":"many"')
    journal.path.write_text("".join(lines))
    with pytest.raises(ValueError, match=r"journal\.jsonl, line 3 is no epoch of a run: steps:"):
        journal.records()


def test_a_record_holds_numbers_that_json_holds() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Loss(value=float("nan"))
    with pytest.raises(ValidationError, match="Extra inputs"):
        EpochRecord.model_validate({"epochs_done": 1, "steps": 1, "speed": 3})


def test_the_best_epoch_is_a_trained_and_measured_one(records: list[EpochRecord]) -> None:
    assert best_epoch(records) == records[3]
    assert best_epoch([record_of(0, 99.0), record_of(1, None)]) is None
    ties = [record_of(1, 60.0), record_of(2, 60.0)]
    assert best_epoch(ties) is ties[0]


def test_the_total_counts_each_loss_with_its_weight() -> None:
    assert total({"a": Loss(value=2.0), "b": Loss(value=-3.0, weight=0.5)}) == 0.5


RESULTS = {
    "settings": {"data": "shots/val"},
    "num_images": 7,
    "skipped": [{"image_id": "a", "reason": "b"}],
    "classification": {"top-1": {"value": 80.0, "interval": [70.0, 90.0]}},
}
MASKED = {"PxAP": {"value": 55.0, "interval": [50.0, 60.0]}, "precision": [1.0], "recall": [0.0]}
BOXED = {
    "num_with_boxes": 6,
    "thresholds": {"MaxBoxAcc": 0.2},
    "swept": {
        "MaxBoxAccV2": {"value": 61.0, "interval": [50.0, 70.0]},
        "MaxBoxAcc": {"value": 60.0, "interval": [50.0, 70.0], "cam_threshold": 0.2},
    },
}


def test_validation_is_what_the_evaluator_found() -> None:
    found = Validation.of({**RESULTS, "methods": {"pc1": BOXED | MASKED, "centre_box": BOXED}})
    assert (found.data, found.num_images, found.skipped) == ("shots/val", 7, 1)
    assert (found.leading, found.score_name, found.score.value) == ("pc1", "MaxBoxAccV2", 61.0)
    assert found.methods["pc1"]["PxAP"].interval == (50.0, 60.0)
    assert found.cam_threshold("pc1") == found.cam_threshold("cosine") == 0.2
    assert found.classification["top-1"].value == 80.0


def test_where_there_are_only_masks_pxap_decides() -> None:
    found = Validation.of({**RESULTS, "methods": {"cam": MASKED}})
    assert (found.score_name, found.score.value) == ("PxAP", 55.0)
    assert found.cam_threshold("cam") is None


def scalars_in(folder: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_a_resumed_run_takes_its_later_steps_back(tmp_path: Path) -> None:
    first = Scalars(tmp_path)
    for step in range(6):
        first.step(step, {"drop": Loss(value=step, weight=2.0), "cls": Loss(value=1.0)}, lr=0.5)
    first.epoch(record_of(1, 62.5))
    first.close()
    assert scalars_in(tmp_path, "loss/total") == [(step, 2.0 * step + 1) for step in range(6)]
    assert scalars_in(tmp_path, "validation/cam/MaxBoxAccV2") == [(7, 62.5)]
    assert scalars_in(tmp_path, "train/waiting") == [(7, 0.125)]
    second = Scalars(tmp_path, purge_step=3)
    second.step(3, {"drop": Loss(value=30.0)}, lr=0.25)
    second.close()
    expected = [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    assert scalars_in(tmp_path, "loss/drop") == expected
    assert scalars_in(tmp_path, "lr") == [(0, 0.5), (1, 0.5), (2, 0.5), (3, 0.25)]


def test_without_a_checkpoint_nothing_of_a_journal_stays(
    journal: Journal, records: list[EpochRecord]
) -> None:
    assert journal.resume(None) == []
    journal.append(records[0])
    assert journal.records() == records[:1]
