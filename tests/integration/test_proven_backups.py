"""The janitor of a running appliance proves its backups, through kill -9, and tells of damage."""

import json
import time
from pathlib import Path

import pytest
from harness import Process, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one(module_stack):
    return module_stack(workers=1, min_free_bytes=0, canary_every="1h")


def alerts(stack):
    raised = stack.get("/v1/status").json()["alerts"]
    return [each["text"] for each in raised if each["alert"] == "backup"]


def back_up(stack):
    time.sleep(1.1)  # the name has the second
    return json.loads(stack.cli("backup", "--json").stdout)["path"]


def test_a_canary_of_a_running_appliance_becomes_a_row_that_nobody_sees(one):
    janitor = Process("janitor", one.env, one.folder)
    janitor.start()
    try:
        wait_until(
            lambda: one.get("/v1/status").json()["canary"],
            "a canary was sent", 30, lambda: janitor.log,
        )  # fmt: skip
        book = one.get("/v1/status").json()["canary"]
        assert (book["url"], book["failures"], book["reason"]) == (one.url, 0, None)
        assert 0 < book["seconds"] < 10
        assert one.get("/v1/topics").json()["topics"] == []
        assert "to the row in" in one.cli("status", text=True).stdout
        wait_until(
            lambda: "appliance_canary_duration_seconds 0." in one.get("/metrics").text,
            "it is a metric", 10, one.logs,
        )  # fmt: skip
        assert janitor.stop() == 0
    finally:
        janitor.kill()


def test_a_backup_is_proven_through_a_kill_and_a_damaged_one_is_an_alert(one):
    lines = b"\n".join(b"%d %s" % (n, b"x" * 400) for n in range(15_000))
    for _ in range(2):
        assert one.publish("ballast", lines, {"split": "lines"}).status_code == 202
    one.wait_rows(30_000, "ballast", 60)
    good = back_up(one)
    scratch, janitor = one.data / ".appliance-proof", Process("janitor", one.env, one.folder)
    janitor.start()
    try:
        wait_until(
            lambda: any(scratch.glob("*")), "the proof is under way", 30, lambda: janitor.log
        )
        janitor.kill()
        assert scratch.exists()
        assert one.get("/v1/status").json()["backup_restorable_at"] is None
        janitor.start()
        wait_until(
            lambda: one.get("/v1/status").json()["backup_restorable_at"],
            "the backup is proven", 60, lambda: janitor.log,
        )  # fmt: skip
        assert not scratch.exists()
        proof = one.get("/v1/status").json()["backup_proof"]
        assert proof["proven"]["messages"] == 30_000
        assert good.endswith(proof["proven"]["backup"])
        assert f"{proof['proven']['backup']} can be restored" in one.cli("status", text=True).stdout
        wait_until(
            lambda: "appliance_backup_restorable_timestamp_seconds 1" in one.get("/metrics").text,
            "it is a metric", 10, one.logs,
        )  # fmt: skip

        bad = back_up(one)
        with Path(bad).open("r+b") as file:
            file.seek(2**20)
            file.write(b"\xff" * 8192)
        done = one.cli("prove", text=True)
        assert done.returncode == 1
        assert "is not sound" in done.stdout
        assert one.get("/v1/status").json()["backup_proof"]["last"]["outcome"] == "failed"
        wait_until(lambda: alerts(one), "an alert is raised", 30, lambda: janitor.log)
        assert "is not sound" in alerts(one)[0]
        assert one.cli("prove", good).returncode == 0
        assert janitor.stop() == 0
        assert not scratch.exists()
    finally:
        janitor.kill()
