"""An operator deletes the queue. What was in it is gone, by that act; all else is as promised."""

import re

import pytest
from harness import START_SECONDS, wait_until
from load import amqp, depth, wait_drained

from appliance.broker import base


@pytest.mark.slow
def test_a_queue_deleted_under_load_is_made_again_and_verify_shows_what_went_with_it(
    appliance, under_load
):
    """The workers are stopped, so that there is something to lose. Waits for them."""
    one = appliance().start().wait_ready()
    with under_load(one, rate=200) as load:
        load.wait_accepted(100, START_SECONDS)
        one.ctl("stop", "worker:*")
        wait_until(lambda: depth(one) > 50, "messages wait", 60, one.logs)
        with amqp(one) as link:
            link.channel().queue_delete(base.QUEUE)
        accepted = {attempt.id for attempt in load.accepted}
        # What was answered 202 in this moment may have been in the old queue, or not.
        load.wait_accepted(50, START_SECONDS)
        one.ctl("start", "worker:*")
        load.wait_accepted(200, START_SECONDS)
    one.wait_ready()
    wait_drained(one)
    stored = {
        row["id"] for row in one.query("SELECT id FROM messages UNION SELECT id FROM dead_letters")
    }
    later = [attempt.id for attempt in load.accepted if attempt.id not in accepted]
    missing = [message for message in later if message not in stored]
    assert len(later) > 200
    assert len(missing) <= 2 * len(load.ways), "more is missing than the senders had under way"
    findings, letters = load.check(), load.check_letters()
    assert {kind.name for kind in findings.faults} == {"answered 202 and missing"}
    assert {kind.name for kind in letters.faults} <= {"answered 202 and missing"}
    lost = findings.missing.count + letters.missing.count
    load.note(missing_with_the_queue=lost)

    said = one.cli("verify")
    assert said.returncode == 1
    gap = re.search(r"envelopes missing: ([\d,]+)", said.stdout)
    assert gap, said.stdout
    assert 0 < int(gap[1].replace(",", "")) <= lost
    load.expect(findings, letters)
    assert one.end() == 0
