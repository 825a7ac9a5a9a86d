"""The store: what was kept comes back to the last bit, and what is damaged does not come back."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from wsolviz.fields.store import FieldKey, FieldState, FieldStore, cache_folder
from wsolviz.receptive_field import FieldSum

KEY = FieldKey("net", "abc", None, None, "float32", 16, None, None, "photos", 9, "cpu")
ENTRY_BYTES = 16 * 16 * 8


def state_of(seed: int = 0, done: int = 5) -> FieldState:
    total = np.random.default_rng(seed).random((16, 16))
    return FieldState(done, FieldSum(total, (1, 2), (4, 4), done - 1, 0), ((3, "broken"),), 1.5)


def same(one: FieldState, other: FieldState) -> bool:
    plain = [replace(state, summed=None) for state in (one, other)]
    if plain[0] != plain[1] or (one.summed is None) != (other.summed is None):
        return False
    if one.summed is None:
        return True
    sums = [{**vars(state.summed), "total": state.summed.total.tobytes()} for state in (one, other)]
    return sums[0] == sums[1]


def test_what_was_kept_comes_back(store):
    assert same(store.load(KEY), FieldState())
    for state in (state_of(), state_of(1, 9), FieldState(2, None, ((0, "a"), (1, "b")), 0.1)):
        store.save(KEY, state)
        assert same(store.load(KEY), state)
    assert len(list(store.folder.iterdir())) == 1


@pytest.mark.parametrize("name", FieldKey.__dataclass_fields__)
def test_nothing_that_a_field_depends_on_is_left_out_of_its_name(store, name):
    store.save(KEY, state_of())
    value = getattr(KEY, name)
    other = {str: f"{value}x", int: 17, type(None): 0 if name != "position" else (0, 1)}[
        type(value)
    ]
    assert same(store.load(replace(KEY, **{name: other})), FieldState())


@pytest.mark.parametrize("damage", ["cut", "flip", "method", "empty", "text", "foreign", "too far"])
def test_a_damaged_entry_is_none_and_can_be_written_again(store, damage, caplog):
    store.save(KEY, state_of())
    path = store.folder / KEY.file_name
    content = bytearray(path.read_bytes())
    at = content.index(state_of().summed.total.tobytes()) + 100
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[at] ^= 1
        path.write_bytes(content)
    elif damage == "method":  # of compression, in the archive's first directory entry
        content[content.index(b"PK\1\2") + 10] = 77
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "foreign":
        store.save(replace(KEY, size=17), state_of())
        (store.folder / replace(KEY, size=17).file_name).replace(path)
    else:
        store.save(KEY, state_of(done=10))
    assert same(store.load(KEY), FieldState())
    assert "damaged" in caplog.text
    store.save(KEY, state_of())
    assert same(store.load(KEY), state_of())


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    store = FieldStore(tmp_path, max_bytes=4 * ENTRY_BYTES)
    keys = [replace(KEY, backbone=str(i)) for i in range(4)]
    for i, key in enumerate(keys[:2]):
        store.save(key, state_of())
        os.utime(tmp_path / key.file_name, (i, i))
    abandoned = tmp_path / "abandoned.npz.1.part"
    abandoned.write_bytes(bytes(100))
    os.utime(abandoned, (0, 0))
    store.load(keys[0])  # so that keys[1] is the oldest
    for key in keys[2:]:
        store.save(key, state_of())
    kept = [key.backbone for key in keys if store.load(key).done]
    assert kept[-1] == "3"
    assert "1" not in kept
    assert not abandoned.exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= store.max_bytes


def test_the_newest_stays_however_large_it_is(tmp_path):
    store = FieldStore(tmp_path, max_bytes=1)
    for i in range(2):
        store.save(replace(KEY, backbone=str(i)), state_of())
    assert [bool(store.load(replace(KEY, backbone=str(i))).done) for i in range(2)] == [False, True]


def _write_often(folder, seed):
    store = FieldStore(folder)
    for _ in range(30):
        store.save(KEY, state_of(seed))
        found = store.load(KEY)
        if not any(same(found, state_of(s)) for s in (0, 1)):
            return found
    return None


def test_processes_that_write_one_entry_never_read_a_part_of_it(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_write_often, [tmp_path] * 2, [0, 1])) == [None, None]
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = FieldStore(tmp_path / "file" / "store")
    store.save(KEY, state_of())
    assert "is not kept" in caplog.text
    assert same(store.load(KEY), FieldState())


def test_the_folder_is_the_environments_or_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("WSOLVIZ_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert FieldStore().folder == tmp_path / "erf"
    monkeypatch.delenv("WSOLVIZ_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "wsolviz"
