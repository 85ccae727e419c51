"""The janitor of a running appliance keeps a history, which restarts and a new container leave."""

import pytest
from harness import Process, wait_until

pytestmark = pytest.mark.slow


def points(one, span="15m"):
    answer = one.get(f"/v1/history?span={span}")
    assert answer.status_code == 200, answer.text
    return answer.json()["points"]


def total(one, member, span="15m"):
    return sum(point[member] for point in points(one, span))


def test_history_counts_each_message_once_and_is_there_after_kills_and_in_a_new_container(stack):
    one = stack(workers=1)
    janitor = Process("janitor", one.env, one.folder)
    janitor.start()
    try:
        wait_until(lambda: total(one, "seconds") > 0, "a second was watched", 60, one.logs)
        for number in range(20):
            assert one.publish("course", b"%d" % number).status_code == 202
        assert one.get("/v1/no-such-address").status_code == 404
        assert one.get("/v1/topics?no-such=1").status_code == 400
        for member, count in (("accepted", 20), ("stored", 20), ("refused", 1)):
            wait_until(
                lambda member=member, count=count: total(one, member) >= count, member, 60, one.logs
            )
        wait_until(lambda: any(each["p99_seconds"] for each in points(one)), "p99", 60, one.logs)
        wait_until(lambda: points(one)[-1]["waiting"] == 0, "none is seen to wait", 60, one.logs)
        assert points(one)[-1]["disk_free_bytes"] > 0

        # A killed janitor leaves the seconds of its minute, which the next one keeps.
        janitor.kill()
        assert total(one, "accepted") == 20
        janitor.start()
        watched = total(one, "seconds")
        wait_until(lambda: total(one, "seconds") > watched, "it watches again", 60, one.logs)
        assert one.publish("course", b"after the kill").status_code == 202
        wait_until(lambda: total(one, "stored") == 21, "it counts on", 60, one.logs)
        assert janitor.stop() == 0

        # A new container has no run folder's file; the minutes are in the database.
        (one.config.run_folder / "history").unlink()
        assert total(one, "stored", "1h") == total(one, "stored", "15m") == 21
    finally:
        janitor.kill()
