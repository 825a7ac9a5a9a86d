import threading
import time

import pytest

from wsolviz.cache import ByteBoundedCache


def test_a_value_is_made_once_however_many_threads_ask():
    made = []
    cache = ByteBoundedCache(max_bytes=100, size_of=len)
    start = threading.Barrier(8)

    def make(key):
        made.append(key)
        time.sleep(0.05)  # long enough for all to be waiting
        return f"value of {key}"

    def ask(results, index):
        start.wait()
        results[index] = cache.get("key", make)

    results = [None] * 8
    threads = [threading.Thread(target=ask, args=(results, i)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["key"]
    assert results == ["value of key"] * 8


def test_the_least_recently_used_go_first_until_the_bytes_fit():
    cache = ByteBoundedCache(max_bytes=10, size_of=len)
    for key in ("aaaa", "bbbb", "aaaa", "cc", "dddd"):
        cache.get(key, lambda k: k)
    assert [key in cache for key in ("aaaa", "bbbb", "cc", "dddd")] == [True, False, True, True]


def test_one_value_above_the_bound_is_kept_alone():
    cache = ByteBoundedCache(max_bytes=3, size_of=len)
    cache.get("ab", lambda k: k)
    cache.get("abcdef", lambda k: k)
    assert "abcdef" in cache
    assert "ab" not in cache


def test_a_failure_goes_through_and_the_next_call_tries_again():
    cache = ByteBoundedCache(max_bytes=3, size_of=len)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda _: 1 / 0)
    assert cache.get("a", lambda k: k) == "a"


def test_what_is_evicted_is_told_and_what_is_unwanted_is_forgotten():
    evicted = []
    cache = ByteBoundedCache(max_bytes=4, size_of=len, on_eviction=evicted.append)
    for key in ("aa", "bb", "cc"):
        cache.get(key, lambda k: k)
    assert evicted == ["aa"]
    cache.discard(lambda value: value == "bb")
    assert "bb" not in cache
    assert "cc" in cache


def test_a_value_that_has_grown_is_counted_again():
    cache = ByteBoundedCache(max_bytes=4, size_of=len)
    first, second = cache.get("a", lambda _: [1, 1]), cache.get("b", lambda _: [2, 2])
    second.append(2)
    assert "a" in cache
    cache.recount(second)
    assert "a" not in cache
    assert "b" in cache
    cache.recount(first)
    assert "a" not in cache
