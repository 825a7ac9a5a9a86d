import pytest

from wsolviz.progress import StoppedError
from wsolviz.ui.jobs import Jobs


def test_a_job_stops_at_its_next_report():
    jobs, seen = Jobs(), []
    with pytest.raises(StoppedError), jobs.running("visitor", lambda *a: seen.append(a)) as report:
        report(0.1, "first")
        assert jobs.stop("visitor")
        report(0.2, "second")
    assert seen == [(0.1, "first")]
    assert not jobs.stop("visitor"), "nothing runs any more"


def test_other_visitors_go_on():
    jobs = Jobs()
    with jobs.running("a", lambda *_: None), jobs.running("b", lambda *_: None) as of_b:
        jobs.stop("a")
        of_b(0.5, "still here")


def test_a_new_job_of_the_same_visitor_ends_the_old_one():
    jobs = Jobs()
    with jobs.running("a", lambda *_: None) as first:
        with jobs.running("a", lambda *_: None) as second:
            with pytest.raises(StoppedError):
                first(0.5, "old")
            second(0.5, "new")
        assert not jobs.stop("a")
