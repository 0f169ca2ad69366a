"""What becomes of a canary, by what was counted: every branch, and how often the rule is wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from scipy.stats import hypergeom
from test_canary_traffic import canary_of

from noria.config import DeployConfig, UpdateConfig
from noria.serving.journal import Event
from noria.serving.observations import Observed
from noria.serving.tally import Tally
from noria.serving.trial_verdict import SIGNIFICANCE, fisher_greater, is_news, judge_trial

DEPLOY = DeployConfig(canary=0.1, canary_requests=200, canary_days=7)
SINCE = datetime.fromisoformat(canary_of().since)


def tally(answers=0, *, errors=0, seconds=0.01, slow=0, right=0, wrong=0, same=0, other=0):
    made = Tally(errors=errors, right=right, wrong=wrong, same_rows=same, other_rows=other)
    for number in range(answers):
        made.answered([], seconds=100 * seconds if number < slow else seconds)
    return made


def judge(ours, theirs, *, mode="canary", days=1.0):
    canary = canary_of(mode=mode, share=0.1)
    now = SINCE + timedelta(days=days)
    config = UpdateConfig(max_latency_ratio=2.0)
    return judge_trial(canary, Observed(theirs, ours, 2), champion="v1", deploy=DEPLOY, config=config, now=now)


@pytest.mark.parametrize(
    ("a", "n", "b", "m"),
    [(3, 50, 1, 950), (1, 1, 0, 1), (12, 230, 40, 4_000), (0, 10, 5, 10), (500, 1_000, 9_000, 20_000)],
)
def test_the_exact_test_is_the_hypergeometric_tail(a, n, b, m):
    assert fisher_greater(a, n, b, m) == pytest.approx(hypergeom.sf(a - 1, n + m, a + b, n), rel=1e-6)


def test_without_requests_on_both_sides_nothing_is_significant():
    assert fisher_greater(5, 5, 0, 0) == fisher_greater(0, 0, 5, 5) == 1.0


def test_of_two_equal_versions_hardly_one_is_called_worse():
    generator = np.random.default_rng(0)
    rate = 0.02
    drawn = generator.binomial([300, 5_700], rate, size=(5_000, 2))
    called = np.mean([fisher_greater(a, 300, b, 5_700) < SIGNIFICANCE for a, b in drawn])
    assert called <= SIGNIFICANCE
    drawn = generator.binomial([300, 5_700], [5 * rate, rate], size=(500, 2))
    assert np.mean([fisher_greater(a, 300, b, 5_700) < SIGNIFICANCE for a, b in drawn]) > 0.99


def test_enough_clean_answers_promote():
    verdict = judge(tally(200), tally(1_800, errors=1))
    assert verdict.decision == "promote"
    assert "0 errors in 200 requests, the champion 1 in 1,801" in verdict.reasons[0]
    assert (verdict.canary.version, verdict.champion.version, verdict.num_servers) == ("v2", "v1", 2)
    assert verdict.canary.p50_ms == pytest.approx(10, rel=0.12)


@pytest.mark.parametrize(("ours", "theirs"), [(199, 5_000), (300, 100), (0, 0)])
def test_too_few_answers_of_either_go_on(ours, theirs):
    verdict = judge(tally(ours), tally(theirs))
    assert (verdict.decision, verdict.is_overdue) == ("go on", False)
    assert f"{min(ours, theirs):,} of 200 answers that are needed" in verdict.reasons[0]


def test_errors_withdraw_before_there_is_enough():
    verdict = judge(tally(0, errors=3), tally(200))
    assert verdict.decision == "withdraw"
    assert "3 of 3 requests, the champion on 0 of 200" in verdict.reasons[0]
    assert judge(tally(20, errors=1), tally(400)).decision == "go on"  # one may be chance


def test_errors_that_the_champion_makes_as_well_promote():
    assert judge(tally(300, errors=6), tally(2_700, errors=54)).decision == "promote"


def test_a_slow_canary_is_withdrawn():
    verdict = judge(tally(200, seconds=0.03), tally(1_800))
    assert verdict.decision == "withdraw"
    assert "times as long in the middle; 2 times are allowed" in verdict.reasons[0]
    assert judge(tally(200, seconds=0.018), tally(1_800)).decision == "promote"
    assert judge(tally(100, seconds=0.1), tally(1_800)).decision == "go on"


def test_a_canary_with_a_slow_tail_is_withdrawn_and_one_pause_is_no_tail():
    verdict = judge(tally(200, slow=8), tally(1_800, slow=5))
    assert verdict.decision == "withdraw"
    assert "8 of 200 answers, of the champion's 5 of 1,800" in verdict.reasons[0]
    assert judge(tally(200, slow=1), tally(1_800, slow=5)).decision == "promote"


def test_what_people_call_wrong_more_often_is_withdrawn():
    verdict = judge(tally(100, right=5, wrong=15), tally(1_800, right=190, wrong=20))
    assert verdict.decision == "withdraw"
    assert "people call more of its answers wrong: 15 of 20" in verdict.reasons[0]
    assert judge(tally(200, right=19, wrong=1), tally(1_800, right=190, wrong=20)).decision == "promote"


def test_a_shadow_is_judged_by_its_own_answers_and_not_by_its_pace():
    verdict = judge(tally(200, seconds=1.0, same=180, other=20), tally(100), mode="shadow")
    assert verdict.decision == "promote"
    assert verdict.same_share == pytest.approx(0.9)
    assert "90.0% of its rows were answered as by the champion" in verdict.reasons[1]
    failing = judge(tally(200, errors=9), tally(1_000, errors=50), mode="shadow")
    assert failing.decision == "withdraw"  # on requests that the champion answered
    assert "the champion on 0 of 209" in failing.reasons[0]


def test_what_goes_on_for_too_long_is_overdue_and_what_is_decided_is_not():
    verdict = judge(tally(50), tally(450), days=8)
    assert (verdict.decision, verdict.is_overdue) == ("go on", True)
    assert "nothing was decided for 8.0 days" in verdict.reasons[1]
    assert not judge(tally(200), tally(1_800), days=8).is_overdue


@pytest.mark.parametrize(
    ("told_on", "today", "canary_days", "news"),
    [
        (None, 8, 7, True),
        (-1, 8, 7, True),  # of an earlier canary
        (8, 14, 7, False),
        (8, 15, 7, True),
        (8, 8.5, 0.1, False),
        (8, 9, 0.1, True),
    ],
)
def test_that_a_canary_is_overdue_is_told_again_and_not_at_every_look(told_on, today, canary_days, news):
    told = None if told_on is None else Event("overdue", "any", (SINCE + timedelta(days=told_on)).isoformat())
    deploy = DEPLOY.model_copy(update={"canary_days": canary_days})
    assert is_news(canary_of(), told, deploy=deploy, now=SINCE + timedelta(days=today)) is news
