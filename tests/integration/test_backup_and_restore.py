"""Backups while messages come in, and of an appliance that is stopped."""

import contextlib
import fcntl
import json
import socket
import sqlite3
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from harness import wait_until
from load import Load, wait_drained


@pytest.fixture(scope="module")
def running(module_stack):
    made = module_stack(workers=2)
    lines = b"\n".join(b"%d %s" % (n, b"x" * 400) for n in range(15_000))
    for _ in range(4):  # 24 MB: more than an answer that is made whole
        assert made.publish("ballast", lines, {"split": "lines"}).status_code == 202
    made.wait_rows(60_000, "ballast", 60)
    return made


def check(path, expected):
    """The copy is sound, and has every one of the `expected` messages once."""
    link = sqlite3.connect(path)
    try:
        assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ids = [row[0] for row in link.execute("SELECT id FROM messages")]
        assert len(ids) == len(set(ids))
        assert {entry.id for entry in expected} <= set(ids)
        kept = dict(link.execute("SELECT topic, messages FROM topics"))
        assert kept == dict(link.execute("SELECT topic, count(*) FROM messages GROUP BY topic"))
    finally:
        link.close()


def left_in(stack):
    folder = stack.data / "backups"
    return [p.name for p in folder.iterdir() if not p.name.endswith("Z.db")]


def test_a_backup_made_under_load_has_all_that_was_stored_before_it(running, tmp_path):
    with Load(running, "command", senders=3) as load:
        load.wait_accepted(50)
        before = [e for e in list(load.accepted) if e.topic == "command-0"][:-1]
        wait_until(lambda: running.count("command-0") >= len(before), "they are stored")
        done = running.cli("backup", "--json")
        load.wait_accepted(50)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    path = Path(told["path"])
    assert path.parent == running.data / "backups"
    assert told["bytes"] == path.stat().st_size
    check(path, before)
    load.verify()
    assert left_in(running) == []
    path.unlink()


def test_a_backup_is_sent_whole_under_load(running, tmp_path):
    with Load(running, "sent", senders=3) as load:
        load.wait_accepted(50)
        before = [e for e in list(load.accepted) if e.topic == "sent-0"][:-1]
        wait_until(lambda: running.count("sent-0") >= len(before), "they are stored")
        with running.client.stream("GET", "/v1/backup") as answer:
            assert answer.status_code == 200
            content = b"".join(answer.iter_raw())
        load.wait_accepted(50)
    assert answer.headers["content-type"] == "application/vnd.sqlite3"
    assert answer.headers["content-disposition"].startswith('attachment; filename="appliance-20')
    assert len(content) == int(answer.headers["content-length"]) > 16 * 2**20
    (tmp_path / "copy.db").write_bytes(content)
    check(tmp_path / "copy.db", before)
    load.verify()
    assert left_in(running) == []


def test_a_client_that_goes_away_leaves_nothing_behind(running):
    def held():
        found = []
        for link in Path(f"/proc/{running.api.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += [link] * ("download-" in str(link.readlink()))
        return found

    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else all of it may fit
        link.connect((running.config.http.host, running.config.http.port))
        head = (
            f"GET /v1/backup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {running.token}\r\n\r\n"
        )
        link.sendall(head.encode())
        assert link.recv(12) == b"HTTP/1.1 200"
        assert held()
        assert left_in(running) == []
    wait_until(lambda: not held(), "the copy is given up")
    assert running.get("/healthz").status_code == 200


def test_a_second_backup_is_told_when_to_come_again(running):
    with (running.data / "appliance.db.backup").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = running.get("/v1/backup")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert answer.json()["type"].endswith("backup-busy")
        assert b"another backup" in running.cli("backup").stderr
    assert running.client.head("/v1/backup").status_code == 200


def test_the_api_stops_in_time_while_a_backup_is_made(stack):
    made = stack(workers=1)
    lines = b"\n".join(b"%d" % n for n in range(100_000))
    for n in range(6):
        made.publish(f"t{n}", lines, {"split": "lines"})
    made.wait_rows(600_000, timeout=120)
    asking = threading.Thread(target=ask_for_backup, args=(made,), daemon=True)
    asking.start()
    drafts = made.data / "backups"
    wait_until(lambda: list(drafts.glob(".download-*")), "the copy is begun")
    assert made.api.stop() == 0
    asking.join(30)
    assert not list(drafts.iterdir())


def ask_for_backup(stack):
    with contextlib.suppress(httpx.TransportError):
        stack.get("/v1/backup")


def test_a_stopped_appliance_can_be_backed_up_too(stack, tmp_path):
    made = stack(workers=1)
    made.publish("orders", b"one", Prefer="wait=20")
    for process in made.processes:
        process.stop()
    done = made.cli("backup", str(tmp_path / "copy.db"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == str(tmp_path / "copy.db")
    assert b"1 message," in done.stderr
    check(tmp_path / "copy.db", [])
    again = made.cli("backup", str(tmp_path / "copy.db"))
    assert again.returncode == 1
    assert b"is there already" in again.stderr


def restored(stack, *arguments):
    return stack.cli("restore", *map(str, arguments), stdin=subprocess.DEVNULL)


def stop(stack):
    for process in stack.processes:
        process.stop()


def test_a_backup_made_under_load_is_restored_and_what_is_queued_is_stored_once(stack, tmp_path):
    """Three times of a message: before the backup, between it and the stop, still queued."""
    made = stack(workers=1)
    copy = tmp_path / "copy.db"
    with Load(made, "early", senders=2) as early:
        early.wait_accepted(60)
        assert made.cli("backup", str(copy)).returncode == 0
        early.wait_accepted(60)
    wait_drained(made)
    made.workers[0].stop()
    with Load(made, "queued", senders=2, most=50) as queued:
        queued.join()
    refused = restored(made, copy, "--yes")
    assert (refused.returncode, made.count()) == (1, len(early.accepted))
    assert b"in use: stop the appliance first" in refused.stderr
    stop(made)
    with contextlib.closing(sqlite3.connect(copy)) as link:
        backed_up = {row[0] for row in link.execute("SELECT id FROM messages")}
    asked = restored(made, copy)
    assert asked.returncode == 2
    assert b"give --yes" in asked.stderr
    done = restored(made, copy, "--yes")
    assert done.returncode == 0, done.stderr
    left = len(early.accepted) - len(backed_up)
    assert f"{left:,} messages and 0 dead letters of the present".encode() in done.stderr
    made.start()
    wanted = backed_up | {entry.id for entry in queued.accepted}
    made.wait_rows(len(wanted), timeout=60)
    wait_drained(made)
    ids = [row["id"] for row in made.rows()]
    assert sorted(ids) == sorted(wanted)
    (kept,) = made.data.glob("appliance.db.before-restore-*")
    with contextlib.closing(sqlite3.connect(kept)) as link:
        there = {row[0] for row in link.execute("SELECT id FROM messages")}
    assert there >= {entry.id for entry in early.accepted}
    queued.verify()
    checked = made.cli("verify")
    assert checked.returncode == 0, checked.stdout
    assert f"left {left:,} messages".encode() in checked.stdout


def test_the_doctor_finds_nothing_wrong_with_a_running_appliance(running):
    done = running.cli("doctor", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (0, True), told
    found = {each["check"]: each["found"] for each in told["findings"]}
    assert found["HTTP port"] == found["AMQP port"]
    assert found["AMQP port"] == "in use by this appliance"
    assert found["database"].startswith("sound")
