"""A disk that fails or is slow.

EIO on write, on sync and on read, two seconds for each sync, and a file system that is read-only.
"""

import json
import subprocess
import sys
import time

import pytest
from bad_disk import FAILS, READS, SYNCS, WRITES, answering, files_below, slow
from ext4 import Ext4Disk
from harness import START_SECONDS, wait_until
from test_killed import kill_all

pytestmark = pytest.mark.slow

#: Seconds that a disk is bad; more than the worker's first attempts to store.
BAD_SECONDS = 6.0
#: Seconds for which every sync takes two.
SLOW_SECONDS = 10.0
WORKERS = ("worker:worker_0", "worker:worker_1")


def pids(one, *programs):
    return [
        wait_until(lambda p=program: one.pid(p), f"{program} runs", START_SECONDS, one.logs)
        for program in programs
    ]


def database_files(one):
    return [one.database.with_name(one.database.name + end) for end in ("", "-wal", "-shm")]


@pytest.mark.parametrize(
    "calls", [WRITES, SYNCS, f"{READS},{SYNCS}"], ids=["write", "sync", "read-and-sync"]
)
def test_database_whose_disk_fails_is_stored_to_when_it_works_again(running, under_load, calls):
    """Every write, sync or read of it is an I/O error for both workers, for six seconds."""
    said = running.log.count("storing failed")
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        before = pids(running, *WORKERS)
        with answering(before, calls, FAILS, *database_files(running)):
            time.sleep(BAD_SECONDS)
        load.wait_accepted(200, START_SECONDS)
    load.verify()
    # Each kind of it is said once. SQLite takes a read that fails in a statement for damage.
    assert said < running.log.count("storing failed") <= said + 2, running.logs()
    assert pids(running, *WORKERS) == before
    assert "Traceback" not in running.log


@pytest.mark.long
def test_broker_whose_disk_fails_to_sync_loses_nothing_that_was_accepted(appliance, under_load):
    """RabbitMQ gives its queues up at the first error; whoever looks after it starts it again."""
    one = appliance(APPLIANCE_HANG_TIMEOUT="5").start().wait_ready()
    with under_load(one) as load:
        load.wait_accepted(200, START_SECONDS)
        with answering(pids(one, "broker"), SYNCS, FAILS):
            time.sleep(BAD_SECONDS)
        one.ctl("restart", "broker")
        load.wait_accepted(200, 90)
    load.verify()
    assert one.end() == 0


def test_broker_whose_disk_fails_to_write_is_restarted_and_loses_nothing(appliance, under_load):
    """RabbitMQ gives the queue of messages up, and leaves its file empty.

    The probe's queue lives, unless a probe was written just then: the API or the probe sees that
    the broker doesn't serve. Nothing but a restart with a whole file brings it back.
    """
    one = appliance(APPLIANCE_HANG_TIMEOUT="5").start().wait_ready()
    with under_load(one) as load:
        load.wait_accepted(200, START_SECONDS)
        (broker,) = pids(one, "broker")
        with answering([broker], WRITES, FAILS, *files_below(one.data / "broker" / "db")):
            time.sleep(BAD_SECONDS)
        wait_until(lambda: one.pid("broker") not in (None, broker), "restarted", 60, one.logs)
        load.wait_accepted(200, START_SECONDS)
    load.verify()
    killed = next(line for line in one.log.splitlines() if '"hung broker killed"' in line)
    reason = json.loads(killed)["reason"]
    assert reason.startswith(("the queue of messages: no confirm", "no confirm and no delivery"))


@pytest.mark.long
@pytest.mark.timeout(400)
def test_broker_whose_disk_fails_to_read_loses_nothing_that_was_accepted(appliance, under_load):
    """It reads when the worker is behind, and whenever it starts; RabbitMQ gives up what it can't.

    The log of the queue begins in the middle, so that its snapshot is needed; Ra removes that.
    """
    one = appliance(APPLIANCE_HANG_TIMEOUT="5").start().wait_ready()
    database = one.data / "broker" / "db"
    with under_load(one) as load:
        load.wait_accepted(200, START_SECONDS)
        one.ctl("restart", "broker")  # what its log holds goes into segments
        wait_until(lambda: is_shortened(database), "the log was shortened", 90, one.logs)
        one.ctl("stop", "worker:*")
        load.wait_accepted(300, START_SECONDS)
        one.ctl("restart", "broker")  # so does what waits
        load.wait_accepted(100, START_SECONDS)
        (broker,) = pids(one, "broker")
        files = files_below(database)
        with answering([broker, one.popen.pid], READS, FAILS, *files) as answered:
            one.ctl("start", "worker:*")
            wait_until(answered.count, "reads fail", 30, one.logs)
            wait_until(lambda: "broker waiting for its disk" in one.log, "it waits", 90, one.logs)
            time.sleep(BAD_SECONDS)
            load.note(failed_reads=answered.count())
        wait_until(lambda: "broker disk works again" in one.log, "it starts", 30, one.logs)
        load.wait_accepted(200, 90)
    load.note(snapshots_put_back=one.log.count("its snapshot was gone"))
    load.verify()
    assert one.log.count("broker disk works again") == 1
    assert one.end() == 0


LOOK = """
import pathlib, sys
from appliance.broker.node.readable import find_unreadable
print(find_unreadable(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.parametrize(("error", "when"), [("EIO", "1+"), ("EIO", "4"), ("EACCES", "1+")])
def test_files_that_the_disk_fails_to_read_are_named_and_no_others(tmp_path, error, when):
    """Any of them, and any part of one; a refusal for another reason is no fault of the disk."""
    (tmp_path / "other").write_bytes(b"x")
    path = tmp_path / "folder" / "large"
    path.parent.mkdir()
    path.write_bytes(bytes(3 * 2**20 + 1))
    done = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-P", path, "-e", "trace=readv", "-e",
         f"inject=readv:error={error}:when={when}", sys.executable, "-c", LOOK, tmp_path],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    named = f"{path} can't be read (Input/output error)"
    assert done.stdout.strip() == (named if error == "EIO" else "")


def is_shortened(database):
    """Whether the log of the queue of messages has lost its first entries to a snapshot."""
    (queue,) = [
        path.parent for path in database.rglob("config") if b"appliance.store" in path.read_bytes()
    ]
    return not (queue / "00000001.segment").exists() and any(queue.glob("*.segment"))


@pytest.mark.parametrize("programs", [("broker",), WORKERS], ids=["broker", "workers"])
def test_disk_that_takes_two_seconds_to_sync_delays_and_loses_nothing(
    running, under_load, programs
):
    with under_load(running) as load:
        load.wait_accepted(200, START_SECONDS)
        with answering(pids(running, *programs), SYNCS, slow(2)):
            time.sleep(SLOW_SECONDS)
        load.wait_accepted(200, 120)
    load.verify()


@pytest.fixture
def disk(tmp_path):
    made = Ext4Disk(tmp_path / "disk.img", tmp_path / "disk")
    yield made
    made.discard()


@pytest.mark.long
def test_disk_that_the_kernel_makes_read_only_loses_nothing_and_is_mended(
    appliance, under_load, disk
):
    """As after an error of the file system: refused with words, until it is checked and mounted."""
    one = appliance(APPLIANCE_HANG_TIMEOUT="5")
    one.data = disk.path / "var"
    one.start().wait_ready()
    with under_load(one) as load:
        load.wait_accepted(200, START_SECONDS)
        disk.break_down()
        wait_until(lambda: not_ready(one), "it is not ready, or has ended", 30, one.logs)
        wait_until(lambda: load.sending.journal.answers[503], "it refuses", 60, one.logs)
        kill_all(one)
        disk.mend()
        one.start().wait_ready()
        load.wait_accepted(200, START_SECONDS)
    load.verify()


def not_ready(one):
    return one.popen.poll() is not None or not one.ready()
