"""The threads of the panels: what they do at the same time, and on how many cores."""

import threading

import torch

from wsolviz.panel_workers import Workers, workers


def test_an_idle_thread_takes_the_second_of_two():
    meeting = threading.Barrier(2)  # which neither of the two leaves before the other is there
    assert sorted(workers.both(meeting.wait, meeting.wait)) == [0, 1]


def test_two_by_two_ends_where_all_threads_are_at_it():
    """Each thread has two things to do, and none is idle to take one."""
    pool = Workers()
    names = [pool.pool.submit(pool.both, lambda i=i: -i, lambda i=i: str(i)) for i in range(8)]
    assert [name.result() for name in names] == [(-i, str(i)) for i in range(8)]
    pool.pool.shutdown()


def test_each_keeps_to_one_core():
    before = torch.get_num_threads()
    assert workers.pool.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
