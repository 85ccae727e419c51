import pytest

from appliance.cli.text.status_text import size, span, status_lines

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
            "detail": "Jan 31 12:00",
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
        "queue   0 envelopes wait; workers attached: 1",
        "store   1,234,567 messages in 2 topics, 1.0 MiB; 0 dead letters; last at " + LAST,
        "files   database 1.0 GiB, write-ahead log 0 bytes (SQLite 3.53.4)",
        "disk    1.0 TiB free of 2.0 TiB; refuses below 256.0 MiB",
        "processes",
        "  api      RUNNING, pid 12, up 1h 1m, accepting; 0 envelopes in the queue",
        "  migrate  EXITED, Jan 31 12:00",
    ]


def test_what_is_wrong_stands_first():
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
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (2**62, "4194304.0 TiB")],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90061, "1d 1h")],
)
def test_spans(seconds, text):
    assert span(seconds) == text
