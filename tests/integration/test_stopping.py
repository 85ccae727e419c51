"""Told to stop, each process ends what it has begun; a newer schema is not touched."""

import json
import signal
import sqlite3
import threading

import pytest
from harness import wait_until
from load import Load, connect, depth, post, wait_accepting, wait_drained
from standstill import frozen

#: Seconds that a process is given to end; supervisord and systemd give it 8.
GRACE = 20.0


@pytest.fixture(scope="module")
def shared(module_stack):
    return module_stack(workers=2, publish_timeout=5.0)


@pytest.fixture
def running(shared):
    yield shared
    for process in shared.processes:
        if not process.running:
            process.start()
    shared.wait_ready()


def test_an_api_that_is_told_to_stop_answers_what_it_has_sent_and_takes_no_more(running):
    """The broker is held, so that the request is surely under way when the stop comes."""
    running.publish("under-way", b"before", Prefer="wait=20")
    answers = []
    with frozen(running.broker.process.pid):
        link = connect(running)
        sender = threading.Thread(
            target=lambda: answers.append(post(link, running, "under-way", b"held"))
        )
        sender.start()
        wait_until(lambda: link.sock is not None, "the request is sent", 10)
        sender.join(0.5)
        assert answers == []
        running.api.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(running), "nothing more is taken", 10, running.logs)
    sender.join(30)
    ((status, _, _),) = answers
    assert status == 202
    assert running.api.popen.wait(GRACE) == 0
    assert [row["body"] for row in running.wait_rows(2, "under-way")] == ["before", "held"]


def refuses(stack):
    try:
        with stack.client.stream("GET", f"{stack.url}/healthz", headers={"Connection": "close"}):
            return False
    except OSError:
        return True
    except Exception as error:  # noqa: BLE001  # httpx has one of its own for each way to fail
        return "ConnectError" in type(error).__name__


@pytest.mark.slow
def test_all_told_to_stop_at_once_under_load_lose_nothing(running):
    """As `docker stop` would, twice. Waits for the broker's start."""
    with Load(running, "all-stopped", senders=6) as load:
        for _ in range(2):
            load.wait_accepted(200)
            processes = [running.api, *running.workers, running.broker.process]
            for process in processes:
                process.popen.send_signal(signal.SIGTERM)
            assert [process.popen.wait(GRACE) for process in processes] == [0, 0, 0, 0]
            for process in processes:
                process.start()
            wait_accepting(running)
        load.wait_accepted(100)
    load.verify()
    assert "Traceback" not in "".join(process.log for process in running.processes[:-1])
    done = running.cli("verify", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, []), found


def test_an_older_program_touches_nothing_of_a_newer_database(running):
    """Nothing is stored meanwhile, nothing is lost, and whoever asks is told why."""
    for worker in running.workers:
        wait_until(lambda w=worker: "broker connected" in w.log_now, "it consumes", 30)
        assert worker.stop() == 0
    version = running.query("PRAGMA user_version")[0][0]
    set_version(running, 99)
    try:
        before = running.database.read_bytes()
        done = running.cli("migrate")
        assert done.returncode == 1
        assert b"schema 99 is newer than this program's" in done.stderr
        running.workers[0].start()
        wait_until(lambda: "is newer" in running.workers[0].log_now, "it says so", 30)
        assert running.publish("newer", b"kept in the queue").status_code == 202
        answer = running.get("/readyz")
        assert answer.status_code == 503
        assert any("schema" in reason for reason in answer.json()["reasons"])
        wait_until(lambda: depth(running) == 1, "it waits in the queue", 30, running.logs)
        assert running.database.read_bytes() == before
        assert running.cli("verify").returncode == 1
    finally:
        set_version(running, version)
    (row,) = running.wait_rows(1, "newer")
    assert row["body"] == "kept in the queue"
    wait_drained(running)


def set_version(stack, version):
    link = sqlite3.connect(stack.database, isolation_level=None)
    link.execute(f"PRAGMA user_version = {version}")
    link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    link.close()
