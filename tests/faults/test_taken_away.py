"""Files of the data folder that other programs remove, cut, change, copy, move and exchange."""

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from database_pages import PAGE, pages
from harness import START_SECONDS, wait_until
from supervised import Appliance
from test_killed import kill_all

from appliance.broker.node import log_check, queue_snapshots, segment_check

pytestmark = pytest.mark.slow

#: Messages that the appliance puts into one envelope at most, where each came alone.
MOST_OF_AN_ENVELOPE = 512


def log_of(one):
    return one.database.with_name(one.database.name + "-wal")


def events(one, name):
    """Return the lines of the appliance's log with this event."""
    lines = (line for line in one.log.splitlines() if f'"event": "{name}"' in line)
    return [json.loads(line[line.index("{") :]) for line in lines]


def wait_event(one, name, before):
    wait_until(lambda: len(events(one, name)) > before, name, START_SECONDS, one.logs)
    return events(one, name)[-1]


def move_log(one):
    """Have SQLite move everything from the write-ahead log into the database, and cut the log."""
    with contextlib.closing(sqlite3.connect(one.database)) as link:
        wait_until(
            lambda: link.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "moved"
        )


def verified(one):
    """Return the answer of `appliance verify`, once everything that was confirmed was looked at."""
    return json.loads(one.cli("verify", "--json").stdout)


def check_a_loss(load, one):
    """Hold the store to what a loss of the last messages leaves: it is said, and no more is wrong.

    Returns how many messages that were answered 202 are missing.
    """
    load.wait_drained()
    found = load.findings()
    assert [kind.name for kind in found.faults] == [found.missing.name], load.words(found)
    assert one.query("PRAGMA integrity_check")[0][0] == "ok"
    problems = verified(one)["problems"]
    assert len(problems) == 1, problems
    assert problems[0].startswith("envelopes missing: "), problems
    assert one.cli("verify", "--accept").returncode == 0
    load.note(missing=found.missing.count)
    return found.missing.count


def test_a_log_removed_under_load_is_saved_and_nothing_is_lost(running, under_load):
    before = len(events(running, "write-ahead log removed"))
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        # Saved is a log that the worker has open: it opens it when it first stores.
        wait_until(lambda: running.count() > 0, "rows are stored", START_SECONDS, running.logs)
        log_of(running).unlink()
        assert wait_event(running, "write-ahead log removed", before)["saved"]
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_a_log_cut_under_load_is_said_and_the_rest_is_kept(running, under_load):
    before = len(events(running, "write-ahead log cut short"))
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        move_log(running)  # the addresses that the load sends to are in the database then
        load.wait_accepted(200, START_SECONDS)
        os.truncate(log_of(running), 0)
        wait_event(running, "write-ahead log cut short", before)
        load.wait_accepted(200, START_SECONDS)
    check_a_loss(load, running)


def flip(path, at, mask=0x10):
    """Flip a bit, as a disk or memory may."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))


HARMS = {
    "flipped": lambda log: flip(log, log.stat().st_size // 2),
    "removed": lambda log: log.unlink(),
    "cut": lambda log: os.truncate(log, log.stat().st_size // 2),
}


@pytest.mark.parametrize(
    "harm",
    ["flipped", pytest.param("removed", marks=pytest.mark.long),
     pytest.param("cut", marks=pytest.mark.long)],
)  # fmt: skip
def test_a_log_harmed_after_a_kill_is_said_at_the_start_and_the_rest_is_kept(
    running, under_load, harm
):
    before = len(events(running, "write-ahead log damaged"))
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        move_log(running)  # the addresses that the load sends to are in the database then
        load.wait_accepted(500, START_SECONDS)
        kill_all(running)
        HARMS[harm](log_of(running))
        running.start().wait_ready()
        wait_event(running, "write-ahead log damaged", before)
        load.wait_accepted(200, START_SECONDS)
    check_a_loss(load, running)


def test_bits_flipped_in_the_database_are_said_and_all_that_can_be_read_is_rescued(
    running, under_load, tmp_path
):
    with under_load(running) as load:
        load.wait_accepted(500, START_SECONDS)
        running.ctl("stop", "worker:*")
        move_log(running)
        index, _ = pages(running.database, "messages_topic")
        _, leaves = pages(running.database, "messages")
        for page in (index, leaves[-2]):
            flip(running.database, (page - 1) * PAGE)
        running.ctl("start", "worker:*")
        wait_until(lambda: "the database is damaged" in reasons(running), "it is said", 30)
        load.wait_accepted(100, START_SECONDS)  # the queue keeps what comes
        said = running.cli("verify")
        assert "appliance backup --rescue" in said.stdout + said.stderr
        running.ctl("stop", "api", "deliver", "janitor", "worker:*")
        copy = tmp_path / "rescued.db"
        rescued = json.loads(running.cli("backup", "--rescue", "--json", str(copy)).stdout)
        done = running.cli("restore", "--yes", str(copy))
        assert done.returncode == 0, done.stderr
        running.ctl("start", "api", "deliver", "janitor", "worker:*")
        running.wait_ready()
        load.wait_accepted(100, START_SECONDS)
    load.wait_drained()
    found = load.findings()
    assert {kind.name for kind in found.faults} <= {found.missing.name, found.torn.name}
    lost = rescued["lost"]["messages"]
    assert 0 < found.missing.count <= lost <= 100
    load.note(lost=lost)
    assert verified(running)["problems"] == []


def reasons(one):
    return " ".join(one.client.get("/readyz").json()["reasons"])


def refused(one, words):
    """Start it in vain: status 78 and these words, nothing is made."""
    one.start()
    assert one.popen.wait(START_SECONDS) == 78, one.log
    assert words in one.log
    assert "Traceback" not in one.log


def test_a_copy_made_while_it_runs_is_refused_and_the_first_one_goes_on(
    running, under_load, tmp_path
):
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        other = Appliance(tmp_path)
        copying = subprocess.run(["cp", "-a", running.data, other.data], check=False)
        assert copying.returncode in (0, 1)  # a file can be gone before it is copied
        refused(other, "is a copy of a data folder that was in use")
        other.clear()
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_a_second_appliance_on_the_folder_is_refused_and_the_first_one_goes_on(
    running, under_load, tmp_path
):
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        second = Appliance(tmp_path)
        second.data = running.data
        refused(second, "is in use by another `appliance run`")
        second.clear()
        load.wait_accepted(200, START_SECONDS)
    load.verify()
    assert running.popen.poll() is None


@pytest.mark.long
def test_brokers_files_of_another_folder_are_refused_and_a_moved_folder_goes_on(
    running, under_load
):
    """Everything is killed with messages in the queue; they are still there at the new place."""
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        running.ctl("stop", "worker:*")
        load.wait_accepted(200, START_SECONDS)
        kill_all(running)
        own, aside = running.data / "broker", running.data / "own-broker"
        own.rename(aside)
        shutil.copytree(aside, own)
        (own / "identity").write_text("of another folder\n")
        refused(running, "has the broker's files of another data folder")
        shutil.rmtree(own)
        aside.rename(own)
        place = running.data.with_name("moved")
        running.data.rename(place)
        running.data = place
        running.start().wait_ready()
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_a_bit_flipped_in_the_brokers_log_is_put_right_and_nothing_is_lost(running, under_load):
    """Everything is killed with messages in the queue. RabbitMQ by itself would not start again."""
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        running.ctl("stop", "worker:*")
        load.wait_accepted(200, START_SECONDS)
        kill_all(running)
        log = largest(running, "*.wal")
        flip(log, within_a_message(log))
        before = len(events(running, "broker log mended"))
        running.start().wait_ready()
        line = wait_event(running, "broker log mended", before)
        assert (line["corrected"], line["replaced"]) == (1, 0)
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_a_bit_flipped_in_a_segment_of_the_broker_is_put_right_and_nothing_is_lost(
    running, under_load
):
    """Messages that wait across a start lie in segments. RabbitMQ would end their queue."""
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        running.ctl("stop", "worker:*")
        load.wait_accepted(200, START_SECONDS)
        kill_all(running)
        segment = put_into_segments(running)
        flip(segment, within_a_message(segment))
        before = len(events(running, "broker log mended"))
        running.start().wait_ready()
        line = wait_event(running, "broker log mended", before)
        assert (line["corrected"], line["replaced"]) == (1, 0)
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def test_entries_that_the_disk_refused_unseen_are_put_back_and_nothing_is_lost(running, under_load):
    """RabbitMQ has removed them from its log, and a full disk took no more than the segment's head.

    (It ends the queue at the first of them that it reads, and at each start from then on.)
    """
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        running.ctl("stop", "worker:*")
        load.wait_accepted(300, START_SECONDS)
        kill_all(running)
        segment = put_into_segments(running)
        lacking = needed(segment)
        os.truncate(segment, 8)
        before = len(events(running, "broker entries put back"))
        running.start().wait_ready()
        line = wait_event(running, "broker entries put back", before)
        assert sum(line["queues"].values()) == lacking
        load.wait_accepted(200, START_SECONDS)
    load.verify()
    wait_until(
        lambda: [path for path in (running.data / "broker" / "logs").iterdir()
                 if path.stat().st_nlink == 1] == [],
        "no log is kept longer than it must be", more=running.logs,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("place", ["segment", "log"])
def test_bits_flipped_in_an_entry_of_the_broker_cost_that_envelope_alone(
    running, under_load, place
):
    """They can't be computed. RabbitMQ would take no message behind the number that is missing."""
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        running.ctl("stop", "worker:*")
        load.wait_accepted(500, START_SECONDS)
        kill_all(running)
        path = put_into_segments(running) if place == "segment" else largest(running, "*.wal")
        flip(path, within_a_message(path, 0.9), mask=0x55)  # one that waits
        before = len(events(running, "broker log mended"))
        running.start().wait_ready()
        line = wait_event(running, "broker log mended", before)
        assert (line["corrected"], line["replaced"]) == (0, 1)
        load.wait_accepted(200, START_SECONDS)
    load.wait_drained()
    assert "envelopes missing: 1;" in " ".join(verified(running)["problems"])
    assert check_a_loss(load, running) <= MOST_OF_AN_ENVELOPE


def within_a_message(path, share=0.5):
    """Return a place so far in a file of the broker that it is in the data of an entry."""
    content = path.read_bytes()
    return content.index(b"enqueue", int(len(content) * share))


def largest(one, pattern):
    """Return the largest of the broker's files with such a name; None where there is none."""
    found = list((one.data / "broker" / "db").rglob(pattern))
    return max(found, key=lambda path: path.stat().st_size, default=None)


def put_into_segments(one):
    """Start the broker alone, which moves what its log holds into segments; return the largest."""
    broker = subprocess.Popen(
        [Path(sys.executable).with_name("appliance"), "broker"],
        env=one.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: port_answers(one), "the broker listens", START_SECONDS)
        wait_until(
            lambda: (found := largest(one, "*.segment")) and found.stat().st_size > 100_000,
            "messages are in segments", START_SECONDS,
        )  # fmt: skip
    finally:
        broker.terminate()
        broker.wait(START_SECONDS)
    return largest(one, "*.segment")


def needed(segment):
    """How many of a segment's entries are nowhere else: in no log, and behind no snapshot."""
    queue = segment.parent
    logged = set().union(
        *(log_check.indexed(log).get(queue.name, ()) for log in queue.parent.glob("*.wal"))
    )
    last = queue_snapshots.last_index(queue)
    return sum(each > last for each in segment_check.indexed(segment) - logged)


def port_answers(one):
    host, _, port = one.env["APPLIANCE_AMQP"].rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False
