import pytest

from appliance.cli.text.status_text import status_lines
from appliance.cli.text.words import counted, size, span

LAST = "2026-01-31T12:00:00.000Z"

READY = {
    "version": "1.2.3",
    "ready": True,
    "reasons": [],
    "processes": [
        {
            "name": "api",
            "state": "RUNNING",
            "pid": 12,
            "uptime_seconds": 3700.0,
            "detail": "pid 12, uptime 1:01:40",
        },
        {
            "name": "migrate",
            "state": "EXITED",
            "pid": None,
            "uptime_seconds": None,
            "detail": "ended at 2026-01-31T12:00:00Z",
        },
    ],
    "pulses": [{"pid": 12, "status": "accepting; 0 envelopes in the queue"}],
    "broker": {"connected": True, "accepting": True, "reason": None, "depth": 0, "consumers": 1},
    "store": {
        "messages": 1234567,
        "bytes": 2**20,
        "topics": 2,
        "dead_letters": 0,
        "last_at": LAST,
        "database_bytes": 2**30,
        "wal_bytes": 0,
    },
    "disk": {"free_bytes": 2**40, "total_bytes": 2**41, "floor_bytes": 2**28},
    "sqlite": "3.53.4",
}


def test_a_status_is_shown_as_a_table():
    assert status_lines(READY, "http://x") == [
        "appliance 1.2.3 at http://x: ready",
        "broker  connected, accepts messages",
        "queue   empty; 1 worker stores",
        "store   1,234,567 messages in 2 topics, 1.0 MiB; last at " + LAST,
        "files   database 1.0 GiB, write-ahead log 0 bytes (SQLite 3.53.4)",
        "disk    1.0 TiB free of 2.0 TiB; below 256.0 MiB messages are refused",
        "processes",
        "  api      RUNNING, pid 12, up 1h 1m, accepts messages",
        "  migrate  done (ran once, 12:00 UTC)",
    ]


def test_a_disk_that_fills_up_is_said_with_its_day():
    disk = READY["disk"] | {"full_at": "2026-02-03T04:05:06.789Z"}
    assert (
        "disk    1.0 TiB free of 2.0 TiB; below 256.0 MiB messages are refused, on 2026-02-03 at "
        "04:05 UTC at the last day's rate"
    ) in status_lines(READY | {"disk": disk}, "http://x")


def test_a_backups_proof_is_said_with_what_is_wrong_with_a_later_one():
    proven = {"backup": "old.db", "made_at": LAST, "proven_at": LAST, "messages": 7}
    good = {"backup": "old.db", "at": LAST, "outcome": "proven", "reasons": []}
    bad = {"backup": "new.db", "at": LAST, "outcome": "failed", "reasons": ["new.db is not sound"]}
    for proof, text in (
        ({"proven": proven, "last": good}, "old.db can be restored, proven 2026-01-31T12:00Z"),
        ({"proven": None, "last": bad}, "none is proven yet; new.db: failed: new.db is not sound"),
    ):
        lines = status_lines(READY | {"backup_proof": proof}, "http://x")
        assert [line for line in lines if line.startswith("backup")] == [f"backup  {text}"]


def test_reasons_for_not_being_ready_stand_first():
    broker = {"connected": False, "accepting": False, "reason": "away", "depth": None}
    broken = READY | {"ready": False, "reasons": ["one", "two"], "store": None, "disk": None}
    lines = status_lines(broken | {"broker": broker, "processes": []}, "http://x")
    assert lines == [
        "appliance 1.2.3 at http://x: NOT READY",
        "  ! one",
        "  ! two",
        "broker  not connected",
        "queue   not seen yet",
        "store   can't be read",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1536, "1.5 KiB"),
        (2**62, "4,194,304.0 TiB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90061, "1d 1h")],
)
def test_spans(seconds, text):
    assert span(seconds) == text


def test_a_number_of_one_is_singular():
    assert [counted(n, "message") for n in (0, 1, 2000)] == [
        "0 messages", "1 message", "2,000 messages",
    ]  # fmt: skip


def worker(number, pid):
    return {
        "name": f"worker:worker_{number}", "state": "RUNNING", "pid": pid, "uptime_seconds": 5.0,
        "detail": "",
    }  # fmt: skip


def lines_with(**changes):
    return status_lines(READY | changes, "http://x")


def test_the_worker_that_stores_is_told_from_the_one_that_stands_by():
    processes = [worker(0, 7), worker(1, 8)]
    pulses = [
        {"pid": 7, "status": "1 envelopes stored in the last minute"},
        {"pid": 8, "status": "0 envelopes stored in the last minute"},
    ]
    lines = lines_with(processes=processes, pulses=pulses)
    assert "queue   empty; 1 worker stores, 1 stands by" in lines
    assert lines[-2:] == [
        "  worker:worker_0  RUNNING, pid 7, up 5s, stores: 1 request in the last minute",
        "  worker:worker_1  RUNNING, pid 8, up 5s, stands by",
    ]
    lines = lines_with(processes=processes, pulses=[pulses[1]])
    assert lines[-1].endswith("up 5s, waits for messages")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("worker:worker_0", "appliance ctl start 'worker:*'"),
        ("worker@1", "sudo systemctl start 'appliance-worker@*'"),
    ],
)
def test_a_queue_without_a_worker_names_the_next_step(name, command):
    stopped = worker(0, None) | {"name": name, "state": "STOPPED", "uptime_seconds": None}
    broker = READY["broker"] | {"depth": 5, "consumers": 0}
    lines = lines_with(processes=[stopped], broker=broker)
    assert f"queue   5 requests wait; no worker stores: {command}" in lines


def test_dead_letters_have_a_line_that_names_the_next_step():
    store = READY["store"] | {"dead_letters": 3}
    assert "dead    3 dead letters: appliance dead list" in lines_with(store=store)


def test_states_are_coloured_on_a_terminal_unless_colours_are_unwanted(monkeypatch):
    assert "\x1b" not in "".join(lines_with())
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mRUNNING\x1b[0m" in "".join(lines_with())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(lines_with())


def test_a_token_for_some_topics_is_shown_their_counts_only():
    hidden = {"broker": None, "disk": None, "processes": [], "pulses": []}
    store = READY["store"] | {"database_bytes": None, "wal_bytes": None}
    assert status_lines(READY | hidden | {"store": store}, "http://x") == [
        "appliance 1.2.3 at http://x: ready",
        "store  1,234,567 messages in 2 topics, 1.0 MiB; last at " + LAST,
    ]


def test_a_canary_is_said_with_its_time_and_with_the_reason_where_it_fails():
    good = {
        "url": "https://x.example",
        "last_good_at": LAST,
        "seconds": 0.0123,
        "failing_since": None,
        "failures": 0,
        "reason": None,
    }
    bad = {"failing_since": LAST, "failures": 2, "reason": "HTTP status 502"}
    text = "from https://x.example to the row in 12 ms, last 2026-01-31T12:00:00Z"
    failing = "; failing since 2026-01-31T12:00:00Z: HTTP status 502"
    for book, expected in (
        (good, text),
        (good | bad, text + failing),
        (good | bad | {"last_good_at": None, "seconds": None}, "none became a row yet" + failing),
    ):
        lines = status_lines(READY | {"canary": book}, "http://x")
        assert [line for line in lines if line.startswith("canary")] == [f"canary  {expected}"]
