"""What `prefect.yaml` declares, and when its cron strings are due where clocks change."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from flows.stack import POOL, QUEUES

BERLIN = ZoneInfo("Europe/Berlin")
TEXT = (Path(__file__).parents[2] / "prefect.yaml").read_text()
DEPLOYMENTS = yaml.safe_load(TEXT)["deployments"]


def due(cron: str, day: str, *, num: int) -> list[str]:
    """By Prefect's own reckoning, the next times after the day's beginning, as a clock in Berlin shows them."""
    from prefect.server.schemas.schedules import CronSchedule

    start = datetime.fromisoformat(day).replace(tzinfo=BERLIN)
    dates = asyncio.run(CronSchedule(cron=cron, timezone="Europe/Berlin").get_dates(n=num, start=start))
    return [f"{date.astimezone(BERLIN):%d %H:%M%z}" for date in dates]


def test_every_flow_has_a_deployment_for_one_run_at_a_time_in_a_queue_that_exists():
    assert [one["entrypoint"].split(".")[1] for one in DEPLOYMENTS] == ["pipeline", "update", "tune"]
    for one in DEPLOYMENTS:
        assert find_spec(".".join(one["entrypoint"].split(".")[:2])) is not None
        assert one["concurrency_limit"]["limit"] == 1
        assert (one["work_pool"]["name"], one["work_pool"]["work_queue_name"] in QUEUES) == (POOL, True)
        assert one["parameters"] == {"directory": "{{ $PWD }}"}
    strategies = [one["concurrency_limit"]["collision_strategy"] for one in DEPLOYMENTS]
    assert strategies == ["ENQUEUE", "CANCEL_NEW", "ENQUEUE"]  # people's runs wait, ticks do not
    (schedule,) = DEPLOYMENTS[1]["schedules"]
    assert schedule["timezone"] and schedule["cron"]


@pytest.mark.parametrize("cron", ["30 2 * * *", "30 3 * * *", "17 4 * * *"])
@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_daily_run_is_due_once_on_the_days_of_23_and_25_hours(cron, day):
    days = [date.split()[0] for date in due(cron, day, num=3)]
    first = datetime.fromisoformat(day)
    assert days == [f"{first + timedelta(days=number):%d}" for number in range(3)]


def test_what_is_due_in_the_hour_that_spring_leaves_out_runs_an_hour_before_it():
    assert due("30 2 * * *", "2026-03-29", num=2) == ["29 01:30+0100", "30 02:30+0200"]


def test_what_is_due_in_the_hour_that_autumn_has_twice_runs_the_first_time():
    assert due("30 2 * * *", "2026-10-25", num=2) == ["25 02:30+0200", "26 02:30+0100"]


def test_an_hourly_run_follows_the_clock_on_the_wall():
    spring = ["29 00:17+0100", "29 01:17+0100", "29 03:17+0200", "29 04:17+0200"]  # each of the 23 hours
    autumn = ["25 01:17+0200", "25 02:17+0200", "25 03:17+0100"]  # the hour that comes again is left out: two hours
    assert due("17 * * * *", "2026-03-29", num=4) == spring
    assert due("17 * * * *", "2026-10-25", num=4)[1:] == autumn
