from noria.tuning.worker import Ended
from tasks.search import _state


def test_a_trial_that_was_stopped_lets_the_report_run_behind_it() -> None:
    state = _state(Ended("interrupted"))
    assert state.is_completed() and state.name == "Interrupted"
    assert _state(Ended("failed", error="out of memory")).is_failed()
