import pytest

from wsolviz.progress import StoppedError, SupersededError
from wsolviz.ui.jobs import Jobs


def test_a_job_stops_at_its_next_report():
    jobs, seen = Jobs(), []
    with (
        pytest.raises(StoppedError),
        jobs.running("visitor", 1, lambda *a: seen.append(a)) as report,
    ):
        report(0.1, "first")
        assert jobs.stop("visitor")
        report(0.2, "second")
    assert seen == [(0.1, "first")]
    assert not jobs.stop("visitor"), "nothing runs any more"


def test_other_visitors_go_on():
    jobs = Jobs()
    with jobs.running("a", 1, lambda *_: None), jobs.running("b", 1, lambda *_: None) as of_b:
        jobs.stop("a")
        of_b(0.5, "still here")


def test_a_new_job_of_the_same_visitor_ends_the_old_one():
    jobs = Jobs()
    with jobs.running("a", 1, lambda *_: None) as first:
        with jobs.running("a", 2, lambda *_: None) as second:
            with pytest.raises(StoppedError):
                first(0.5, "old")
            second(0.5, "new")
        assert not jobs.stop("a")


def test_what_runs_is_known_until_it_is_stopped():
    jobs = Jobs()
    with jobs.running("a", {"methods": ["scorecam"]}, lambda *_: None) as report:
        assert jobs.is_running("a", {"methods": ["scorecam"]})
        assert not jobs.is_running("a", {"methods": ["cam"]})
        assert not jobs.is_running("b", {"methods": ["scorecam"]})
        jobs.stop("a", SupersededError)
        assert not jobs.is_running("a", {"methods": ["scorecam"]})
        with pytest.raises(SupersededError):
            report(0.5, "nobody waits for it")
