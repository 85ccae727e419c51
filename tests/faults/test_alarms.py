"""The broker's own alarms, which block every publisher without a word; raised and lifted."""

import json

import pytest
from harness import START_SECONDS, wait_until
from rabbitmq import rabbitmqctl

ALARMS = {
    "memory": (
        ("set_vm_memory_high_watermark", "absolute", "1MB"),
        ("set_vm_memory_high_watermark", "absolute", "2GB"),
    ),
    "disk": (("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "60MB")),
}


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_refuses_and_when_it_is_over_messages_are_accepted_again(
    running, under_load, alarm
):
    raised, lifted = ALARMS[alarm]
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        rabbitmqctl(running, *raised)
        refused = len(load.refused)
        try:
            wait_until(lambda: len(load.refused) > refused + 4, "refusals", 60, running.logs)
            reasons = readiness(running)
            drained(running)
        finally:
            rabbitmqctl(running, *lifted)
        load.wait_accepted(200, START_SECONDS)
        wait_until(running.ready, "it is ready again", START_SECONDS, running.logs)
    load.verify()
    assert any("block" in reason or "alarm" in reason for reason in reasons), reasons
    for attempt in load.refused:
        assert int(attempt.headers["retry-after"]) >= 1
        assert attempt.seconds < running.config.publish_timeout + 5


def readiness(one):
    """The reasons for which it is not ready."""
    answer = one.client.get("/readyz")
    assert answer.status_code == 503
    return json.loads(answer.content)["reasons"]


def drained(one):
    """The workers go on: what was accepted is stored while nothing more is accepted."""
    headers = {"Authorization": f"Bearer {one.token}"}

    def empty():
        found = one.client.get("/v1/status", headers=headers).json()
        return found["broker"]["depth"] == 0

    wait_until(empty, "the queue is drained during the alarm", 60, one.logs)
