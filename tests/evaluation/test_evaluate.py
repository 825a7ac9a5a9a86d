"""The run over a data set: broken off and gone on with, shared out, with images that fail."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

from tests.evaluation.conftest import (
    BACKBONE,
    METHODS,
    ROOT,
    SIZE,
    command_of,
    kept,
    network_run,
    same_results,
    threads,
)
from wsolviz.evaluation import BoxEvaluator, MaskEvaluator, Metadata, read_metadata
from wsolviz.evaluation.box_metrics import ScoremapBoxes
from wsolviz.evaluation.dataset import Dataset, ImageFiles, open_dataset
from wsolviz.evaluation.evaluate import Run
from wsolviz.evaluation.records import ImageRecord, MethodRecord
from wsolviz.evaluation.results import evaluate_run
from wsolviz.evaluation.sources import Source
from wsolviz.evaluation.tally import CHUNK
from wsolviz.evaluation.team import Team

JOURNAL = "records-{}.jsonl"
ATTEMPTS = 6  # to stop a run between its first image and its last


class StoppedError(Exception):
    """What a listener raises."""


def elsewhere(measured, folder) -> Run:
    return replace(measured.run, folder=folder)


def num_records(folder, rank=0):
    path = folder / JOURNAL.format(rank)
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


@pytest.mark.parametrize("error", [StoppedError, KeyboardInterrupt])
def test_a_run_that_its_listener_ends_goes_on_where_it_stopped(measured, tmp_path, error):
    def stop(done, total, skipped):
        if done >= 4:
            raise error

    run = elsewhere(measured, tmp_path)
    with pytest.raises(error):
        evaluate_run(run, progress=stop)
    assert num_records(tmp_path) == 4
    assert not (tmp_path / "results.json").exists()
    told = []
    evaluate_run(run, progress=lambda *counts: told.append(counts))
    assert told == [(0, 7, 0), (4, 7, 0), (7, 7, 0)]
    assert same_results(tmp_path, measured.run.folder)


@pytest.mark.parametrize("lines", [0, 1, 6, 11])
def test_a_journal_torn_within_a_batch_gives_the_same_to_the_last_bit(measured, tmp_path, lines):
    whole = (measured.run.folder / JOURNAL.format(0)).read_bytes().splitlines(keepends=True)
    left = whole[: 1 + lines]
    torn = whole[1 + lines][:100] if lines < 11 else b'{"index": 3, "im'
    (tmp_path / JOURNAL.format(0)).write_bytes(b"".join([*left, torn]))
    told = []
    evaluate_run(
        elsewhere(measured, tmp_path), progress=lambda done, total, _: told.append((done, total))
    )
    assert told[-1] == (11 - lines, 11 - lines)
    assert same_results(tmp_path, measured.run.folder)


def test_the_number_of_threads_changes_nothing(measured, tmp_path):
    for count in (1, 2, 3):
        with threads(count):
            evaluate_run(elsewhere(measured, tmp_path / str(count)))
        assert same_results(tmp_path / str(count), measured.run.folder)


def test_progress_tells_of_every_batch_and_of_what_was_skipped(data, backbone, tmp_path):
    copy = copied(data, tmp_path)
    (copy / "images" / "test" / "cup_whole.jpg").unlink()
    told = []
    run = network_run(copy, tmp_path / "out", backbone, batch_size=3)
    evaluate_run(run, progress=lambda *counts: told.append(counts))
    assert told == [(0, 11, 0), (3, 11, 1), (6, 11, 1), (9, 11, 1), (11, 11, 1)]


def test_other_settings_are_refused_and_leave_everything_as_it_is(measured, backbone, tmp_path):
    shutil.copytree(measured.run.folder, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    data = measured.run.source.dataset.root
    for changed in (
        {"split": "val"},
        {"methods": ("cam",)},
        {"batch_size": 5},
        {"map_size": 112},
        {"class_from": "prediction"},
    ):
        run = network_run(data, tmp_path / "out", backbone, **changed)
        with pytest.raises(ValueError, match="other settings"):
            evaluate_run(run)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_cleared_run_starts_anew_with_any_settings(measured, backbone, tmp_path):
    shutil.copytree(measured.run.folder, tmp_path / "out")
    data = measured.run.source.dataset.root
    run = network_run(data, tmp_path / "out", backbone, "val", ("cam",))
    run.clear()
    assert evaluate_run(run)["num_images"] == 5
    assert num_records(tmp_path / "out") == 5


# --- images that fail ---


def copied(data, tmp_path):
    return shutil.copytree(data, tmp_path / "copy" / data.name)


def test_broken_and_missing_files_are_skipped_named_and_counted(data, seen, backbone, tmp_path):
    copy = copied(data, tmp_path)
    images = copy / "images" / "test"
    (images / "cat_whole.png").write_bytes(b"no photo at all")
    cut = (images / "cup_right.jpg").read_bytes()
    (images / "cup_right.jpg").write_bytes(cut[: len(cut) // 2])
    (images / "flower_low.jpg").unlink()
    (copy / "masks" / "test_cup_and_cat_0.png").write_text("no mask")
    results = evaluate_run(network_run(copy, tmp_path / "out", backbone))
    why = {
        "test/cat_whole.png": "cat_whole.png is not an image that can be read here",
        "test/cup_right.jpg": "cup_right.jpg is broken or cut off",
        "test/flower_low.jpg": "There is no photo test/flower_low.jpg",
        "test/cup_and_cat.png": "The mask test_cup_and_cat_0.png is not an image",
    }
    assert [skipped["image_id"] for skipped in results["skipped"]] == list(why)
    for skipped in results["skipped"]:
        assert why[skipped["image_id"]] in skipped["reason"]
    assert results["num_images"] == 11
    metadata = read_metadata(copy / "metadata" / "test")
    for method in METHODS:
        evaluator = BoxEvaluator(metadata)
        masks = MaskEvaluator(metadata, copy / "masks")
        for one in seen:
            if one.boxes and one.image_id not in why:
                evaluator.accumulate(one.scoremaps[method], one.image_id)
            if one.image_id in metadata.masks and one.image_id not in why:
                masks.accumulate(one.scoremaps[method], one.image_id)
        expected, figures = evaluator.compute(), results["methods"][method]
        assert figures["num_with_boxes"] == expected.num_images == 6
        assert figures["num_correct"]["MaxBoxAcc"] == expected.num_correct["largest"][1].tolist()
        assert figures["num_correct"]["BoxAccV2@70"] == expected.num_correct["all"][2].tolist()
        assert figures["num_with_masks"] == 3
        assert figures["PxAP"]["value"] == pytest.approx(masks.compute().pxap, rel=1e-4)
    right = [one.ranks(1) for one in seen if one.image_id not in why]
    top_1 = results["classification"]["top-1"]["value"]
    assert top_1 == pytest.approx(100 * sum(right) / len(right))
    with (tmp_path / "out" / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 11 * 3
    for row in rows:
        assert (row["image_id"] in why) == bool(row["failure"])
        assert why.get(row["image_id"], "") in row["failure"]
        if row["failure"]:
            assert {row[name] for name in ("label", "explained", "iou", "x0")} == {""}


def test_it_is_an_error_when_every_image_was_skipped(data, backbone, tmp_path):
    copy = copied(data, tmp_path)
    for path in (copy / "images" / "val").iterdir():
        path.write_text("no photo")
    run = network_run(copy, tmp_path / "out", backbone, "val")
    with pytest.raises(ValueError, match=r"Every image was skipped; the first, val/cat_mirrored"):
        evaluate_run(run)
    assert not (tmp_path / "out" / "results.json").exists()


def test_the_centre_box_is_the_evaluation_of_its_own_score_map(data, seen, measured):
    places = np.linspace(-1, 1, SIZE).tolist()
    scoremap = np.array([[1 - max(abs(x), abs(y)) for x in places] for y in places])
    metadata = read_metadata(data / "metadata" / "test")
    evaluator, masks = BoxEvaluator(metadata), MaskEvaluator(metadata, data / "masks")
    for one in seen:
        if one.boxes:
            evaluator.accumulate(scoremap, one.image_id)
        if one.image_id in metadata.masks:
            masks.accumulate(scoremap, one.image_id)
    metrics, figures = evaluator.compute(), measured.results["methods"]["centre_box"]
    correct = figures["num_correct"]
    assert correct["MaxBoxAcc"] == metrics.num_correct["largest"][1].tolist()
    for row, name in enumerate(("BoxAccV2@30", "BoxAccV2@50", "BoxAccV2@70")):
        assert correct[name] == metrics.num_correct["all"][row].tolist()
    assert figures["swept"]["MaxBoxAcc"]["value"] == pytest.approx(metrics.max_box_acc)
    assert figures["swept"]["MaxBoxAccV2"]["value"] == pytest.approx(metrics.max_box_acc_v2)
    assert figures["PxAP"]["value"] == pytest.approx(masks.compute().pxap, rel=1e-12)


# --- processes ---


def killed_in_the_middle(commands, folder, lines):
    """Start processes, kill them once each has written so many records, and say how many."""
    running = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **more}, stderr=subprocess.DEVNULL)
        for command, more in commands
    ]
    ranks = range(len(running))
    try:
        while all(process.poll() is None for process in running):
            if min(num_records(folder, rank) for rank in ranks) >= lines:
                break
            time.sleep(0.002)
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
    return sum(num_records(folder, rank) for rank in ranks)


def until_stopped_in_the_middle(commands, out, lines):
    """The folder of a run that was killed after its first image and before its last."""
    for attempt in range(ATTEMPTS):
        folder = out(attempt) / BACKBONE / "test"
        if 0 < killed_in_the_middle(commands(out(attempt)), folder, lines) < 11:
            assert not (folder / "results.json").exists()
            return folder
    pytest.fail("the processes ended too soon each time, or could not start")


def test_a_killed_process_goes_on_and_gives_the_same(data, unbroken, tmp_path, cli):
    folder = until_stopped_in_the_middle(
        lambda out: [([sys.executable, "-m", *command_of(data, out)], {})],
        lambda attempt: tmp_path / str(attempt),
        lines=2,
    )
    before = num_records(folder)
    written = (folder / JOURNAL.format(0)).read_bytes()
    out = folder.parents[1]
    status, said = cli(*command_of(data, out)[2:])
    assert status == 0, said
    whole = written[: written.rindex(b"\n") + 1]
    assert (folder / JOURNAL.format(0)).read_bytes().startswith(whole), "measured once, kept"
    assert num_records(folder) == 11 > before
    assert same_results(folder, unbroken)


def test_two_processes_give_the_same_as_one(data, unbroken, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", *command_of(data, tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / BACKBONE / "test"
    assert [num_records(folder, rank) for rank in (0, 1)] == [6, 5]
    assert same_results(folder, unbroken)
    assert done.stderr.count("MaxBoxAcc") == 2, "one process talks: MaxBoxAcc and MaxBoxAccV2"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_one_process_goes_on_with_what_two_began(data, unbroken, tmp_path, cli):
    def both(out):
        team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [sys.executable, "-m", *command_of(data, out)]
        return [(command, {**team, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]

    folder = until_stopped_in_the_middle(both, lambda attempt: tmp_path / str(attempt), lines=1)
    other = (folder / JOURNAL.format(1)).read_bytes()
    status, said = cli(*command_of(data, folder.parents[1])[2:])
    assert status == 0, said
    assert (folder / JOURNAL.format(1)).read_bytes() == other, "another's journal is only read"
    assert num_records(folder, 0) + num_records(folder, 1) == 11
    assert same_results(folder, unbroken)


# --- memory ---


class MadeUp(Source):
    """Records of random maps, for as many images as are wanted; tells how many are alive."""

    methods = ("random",)
    map_size = 32

    def __init__(self, count, tmp_path):
        rng = np.random.default_rng(0)
        ids = tuple(f"{i}.jpg" for i in range(count))
        boxes = dict.fromkeys(ids, np.array([[4, 4, 20, 20]]))
        truth = Metadata(ids, dict.fromkeys(ids, 0), dict.fromkeys(ids, (32, 32)), boxes)
        self.dataset = Dataset(tmp_path / "made up", "test", truth, ImageFiles([]), tmp_path)
        self._found = [ScoremapBoxes.of(rng.random((32, 32)) ** 2) for _ in range(7)]

    @property
    def settings(self):
        return {}

    def heatmaps(self, image_id, method, explained):
        raise NotImplementedError

    def stamp(self, index):
        return 0

    def load(self, index):
        return index

    def measure(self, batch):
        return [partial(self._record, index) for index, _ in batch]

    def _record(self, index):
        found = self._found[index % 7]
        curves = found.curves(np.array([[4, 4, 20, 20]]))
        histograms = np.ones((2, 1002), np.int64)
        method = MethodRecord(curves, found.boxes["largest"], histograms)
        return ImageRecord(index, f"{index}.jpg", methods={"random": method})


@pytest.fixture
def alive(monkeypatch):
    """How many records there were at most at a time, and how many in all."""
    counts = {"now": 0, "most": 0, "all": 0}

    def forget():
        counts["now"] -= 1

    def watch(record):
        counts["now"] += 1
        counts["all"] += 1
        counts["most"] = max(counts["most"], counts["now"])
        weakref.finalize(record, forget)

    original = ImageRecord.__init__

    def construct(record, *args, **kwargs):
        original(record, *args, **kwargs)
        watch(record)

    monkeypatch.setattr(ImageRecord, "__init__", construct)
    return counts


@pytest.mark.parametrize("num_threads", [1, 2])
def test_records_are_let_go_of_while_the_run_goes_on(tmp_path, alive, num_threads):
    count = 3 * CHUNK + 20
    run = Run(MadeUp(count, tmp_path), tmp_path / "out", batch_size=4)
    with threads(num_threads):
        results = evaluate_run(run)
    assert results["methods"]["random"]["num_with_boxes"] == count
    assert alive["all"] == 3 * count, "measured, counted and told in the table"
    assert alive["now"] == 0
    assert alive["most"] <= 4 * (2 * num_threads + 3)


def test_many_images_are_counted_as_one_after_the_other(tmp_path):
    count = 2 * CHUNK + 9
    source = MadeUp(count, tmp_path)
    results = evaluate_run(Run(source, tmp_path / "out"))
    metadata = source.dataset.metadata
    evaluator = BoxEvaluator(metadata, size=32)
    for index in range(count):
        evaluator.add(source._record(index).methods["random"].curves)
    correct = results["methods"]["random"]["num_correct"]
    metrics = evaluator.compute()
    assert correct["MaxBoxAcc"] == metrics.num_correct["largest"][1].tolist()
    assert correct["BoxAccV2@30"] == metrics.num_correct["all"][0].tolist()
    assert kept(tmp_path / "out")["num_images"] == count


# --- teams, of threads that stand for processes ---


@dataclass(frozen=True)
class ThreadTeam(Team):
    """One member of a team whose members are threads of this process."""

    board: list = field(default_factory=list)
    barrier: threading.Barrier | None = None

    def _all(self, value):
        """Every member's value, by rank."""
        self.board[self.rank] = value
        self.barrier.wait()
        values = list(self.board)
        self.barrier.wait()
        return values

    def sum(self, counts):
        return sum(self._all(counts))

    def minimum(self, values):
        return np.min(self._all(values), axis=0)

    def gather(self, value):
        values = self._all(value)
        return values if self.leads else []

    def wait(self):
        self._all(None)

    def first(self, text):
        return next(filter(None, self._all(text)), "")

    def share(self, value):
        return self._all(value)[0]


def together(source, folders):
    """Run with a member for each folder, which may be the same; gives the leader's results."""
    size = len(folders)
    board, barrier = [None] * size, threading.Barrier(size)
    told = [[] for _ in folders]

    def work(rank):
        run = Run(source, folders[rank], ThreadTeam(rank, size, rank, board, barrier), batch_size=4)
        try:
            return evaluate_run(run, progress=lambda *counts: told[rank].append(counts))
        except BaseException:
            barrier.abort()
            raise

    with threads(1), ThreadPoolExecutor(size) as pool:
        results = list(pool.map(work, range(size)))
    assert results[1:] == [{}] * (size - 1), "only the leader is given results"
    return [counts[-1][1] for counts in told]


@pytest.fixture(scope="module")
def by_one(tmp_path_factory):
    """A source of 41 images, and the folder of what one process makes of it."""
    tmp_path = tmp_path_factory.mktemp("made up")
    source = MadeUp(41, tmp_path)
    evaluate_run(Run(source, tmp_path / "out", batch_size=4))
    return source, tmp_path / "out"


def begun(by_one, folder, rank, indices):
    """A journal with some of the records."""
    lines = (by_one[1] / JOURNAL.format(0)).read_bytes().splitlines(keepends=True)
    wanted = [line for line in lines[1:] if json.loads(line)["index"] in indices]
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL.format(rank)).write_bytes(b"".join([lines[0], *wanted]))


def test_what_progress_tells_of_is_out_of_this_process_already(by_one, tmp_path):
    written = []

    def listen(done, total, skipped):
        written.append(num_records(tmp_path))
        assert written[-1] == done

    evaluate_run(Run(by_one[0], tmp_path, batch_size=4), progress=listen)
    assert written == [*range(0, 41, 4), 41]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_members_share_images_out_by_batches(by_one, tmp_path, size):
    shares = together(by_one[0], [tmp_path] * size)
    batches = [range(start, min(start + 4, 41)) for start in range(0, 41, 4)]
    assert shares == [sum(map(len, batches[rank::size])) for rank in range(size)]
    assert same_results(tmp_path, by_one[1])


@pytest.mark.parametrize(
    "before",
    [
        {0: range(17)},  # one had begun
        {0: range(0, 41, 2), 1: range(0, 13)},  # two, and some images are there twice
        {3: range(30, 41), 7: range(5)},  # more than there are now
        {0: range(41)},  # nothing is left to do
    ],
)
def test_a_team_goes_on_with_what_others_began(by_one, tmp_path, before):
    for rank, indices in before.items():
        begun(by_one, tmp_path, rank, indices)
    seen = {index for indices in before.values() for index in indices}
    assert sum(together(by_one[0], [tmp_path] * 2)) == 41 - len(seen)
    assert same_results(tmp_path, by_one[1])


def test_members_on_other_machines_keep_journals_of_their_own(by_one, tmp_path):
    folders = [tmp_path / "here", tmp_path / "there"]
    begun(by_one, folders[0], 0, range(9))
    begun(by_one, folders[1], 1, range(7, 20))
    assert sum(together(by_one[0], folders)) == 21
    assert same_results(folders[0], by_one[1])
    assert not (folders[1] / "results.json").exists()
    assert sum(together(by_one[0], folders)) == 0, "and again there is nothing left to do"
    assert same_results(folders[0], by_one[1])


def test_two_runs_in_one_folder_at_a_time_are_refused(data, backbone, tmp_path):
    run = network_run(data, tmp_path, backbone, methods=["cam"])

    def begin_another(done, total, skipped):
        with pytest.raises(ValueError, match="Another run is at work"):
            evaluate_run(network_run(data, tmp_path, backbone, methods=["cam"]))

    assert evaluate_run(run, progress=begin_another)["num_images"] == 11


def test_other_versions_are_other_settings(data, backbone, tmp_path, monkeypatch):
    evaluate_run(network_run(data, tmp_path, backbone, methods=["cam"]))
    monkeypatch.setattr("wsolviz.evaluation.evaluate.versions", lambda: {"torch": "0.1"})
    with pytest.raises(ValueError, match=r"other settings \(versions: "):
        evaluate_run(network_run(data, tmp_path, backbone, methods=["cam"]))


def test_masks_that_are_not_there_are_told_before_the_run(data, tmp_path):
    copy = copied(data, tmp_path)
    (copy / "masks" / "test_cup_and_cat_0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 14 masks .*test_cup_and_cat_0.png"):
        open_dataset(copy, "test")
