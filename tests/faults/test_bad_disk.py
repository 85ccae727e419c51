"""A disk that fails or is slow.

EIO on write, on sync and on read, two seconds for each sync, and a file system that is read-only.
"""

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
    """RabbitMQ gives the queue of messages up, and leaves its file empty; the probe's queue lives.

    Nobody but the API sees that, and nothing but a restart with a whole file brings it back.
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
    assert "the queue of messages: " in one.log


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
