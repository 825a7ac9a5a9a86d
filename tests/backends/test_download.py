"""Fetching files from a server that breaks off, moves, changes and lies."""

import hashlib
import random
import socket
from types import SimpleNamespace

import pytest
from filelock import FileLock

from tests.file_server import FileServer, serve
from wsolviz.backends import download
from wsolviz.backends.download import TRIES, fetch

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serve(FileServer(CONTENT)) as served:
        yield served


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights" / "a.pth"


def files(target):
    return sorted(p.name for p in target.parent.iterdir() if p.name != ".a.pth.lock")


def test_a_file_is_fetched_whole_and_its_progress_told(server, target):
    told = []
    assert fetch(server.address, target, SHA256, lambda *now: told.append(now)) == SHA256
    assert target.read_bytes() == CONTENT
    assert files(target) == ["a.pth"]
    done = [bytes_here for bytes_here, _ in told]
    assert (done[0], done[-1]) == (0, len(CONTENT))
    assert done == sorted(done)
    assert {size for _, size in told} == {len(CONTENT)}


def test_a_cut_connection_is_taken_up_again_where_it_broke(server, target):
    server.cuts = [1_000_000, 500_000]
    fetch(server.address, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]
    assert server.sent == len(CONTENT)


def test_a_later_call_goes_on_from_what_an_earlier_one_left(server, target):
    server.cuts = [2_000_000, *[0] * TRIES]
    with pytest.raises(OSError, match="goes on from there"):
        fetch(server.address, target, SHA256)
    assert "a.pth" not in files(target)
    server.cuts = []
    told = []
    fetch(server.address, target, SHA256, lambda *now: told.append(now))
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert told[0] == (2_000_000, len(CONTENT))


def test_a_part_that_is_whole_already_is_not_fetched_again(server, target):
    server.cuts = [len(CONTENT) - 1, *[0] * TRIES]
    with pytest.raises(OSError, match="broke off"):
        fetch(server.address, target, SHA256)
    with (target.parent / "a.pth.part").open("ab") as part:
        part.write(CONTENT[-1:])
    fetch(server.address, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.sent == len(CONTENT) - 1


def test_a_part_of_another_version_is_not_gone_on_with(server, target):
    server.cuts = [1_000_000, *[0] * TRIES]
    with pytest.raises(OSError, match="broke off"):
        fetch(server.address, target)
    server.content, server.version, server.cuts = CONTENT[::-1], '"2"', []
    fetch(server.address, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_server_without_versions_is_asked_for_everything_again(server, target):
    server.version, server.cuts = None, [1_000_000]
    fetch(server.address, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_a_wrong_hash_leaves_nothing_behind(server, target):
    with pytest.raises(ValueError, match=f"{SHA256} where {'0' * 64} was expected"):
        fetch(server.address, target, "0" * 64)
    assert files(target) == []


def test_what_stood_there_stays_until_the_new_file_is_right(server, target):
    target.parent.mkdir()
    target.write_text("the old file")
    with pytest.raises(ValueError, match="thrown away"):
        fetch(server.address, target, "0" * 64)
    assert target.read_text() == "the old file"


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, FileNotFoundError, "no file at http.*404"),
        (403, OSError, "refused by its server: 403"),
        (503, OSError, "refused by its server: 503"),
    ],
)
def test_a_refusal_is_told(server, target, status, kind, said):
    server.status = status
    with pytest.raises(kind, match=said):
        fetch(server.address, target)
    assert files(target) == []


def test_a_login_page_is_no_checkpoint(server, target):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(ValueError, match="gave a web page and not a file"):
        fetch(server.address, target)
    assert files(target) == []


def test_no_network(target):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match=r"cannot be reached.*download it elsewhere"):
            fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/a.pth", target)


def test_a_full_disk_is_noticed_before_it_is_full(server, target, monkeypatch):
    free = SimpleNamespace(free=len(CONTENT) - 1)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: free)
    with pytest.raises(OSError, match="is full, and 3 MiB are still to come"):
        fetch(server.address, target)
    assert "a.pth" not in files(target)


def test_two_processes_do_not_fetch_the_same_file(server, target):
    target.parent.mkdir()
    with (
        FileLock(target.with_name(".a.pth.lock")),
        pytest.raises(OSError, match="Another process is fetching"),
    ):
        fetch(server.address, target)
    assert server.asked == []
