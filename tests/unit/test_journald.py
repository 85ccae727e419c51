"""Log lines as systemd's journal takes them."""

import json
import logging
import os
import socket
import subprocess
import sys

import pytest

from appliance.logs import journald


def fields(datagram: bytes) -> dict[str, str]:
    """Read a datagram as the journal does."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        found[name.decode()] = value.decode()
        datagram = rest
    return found


def rendered(**event) -> dict[str, str]:
    text = journald.render(None, "", event)
    return fields(text.encode(errors="surrogateescape"))


def test_each_value_is_a_field_and_stands_in_the_message_too():
    assert rendered(event="stored", process="worker", logger="w", level="info", envelopes=3) == {
        "MESSAGE": "stored envelopes=3",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "appliance-worker",
        "APPLIANCE_LOGGER": "w",
        "APPLIANCE_ENVELOPES": "3",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warning", "4"), ("error", "3"), ("critical", "2")],
)
def test_levels_are_syslogs(level, priority):
    assert rendered(event="x", level=level)["PRIORITY"] == priority


@pytest.mark.parametrize("length", [1, 127, 128, 200, 255, 256, 65536])
def test_lines_in_a_value_and_what_is_no_text_arrive_whole(length):
    value = "ü\n" + "x" * length
    found = rendered(event="failed", exception="a\nb", error=value, odd="\udcff")
    assert found["APPLIANCE_ERROR"] == value
    assert found["MESSAGE"].endswith("\na\nb")
    assert found["APPLIANCE_ODD"] == "?"


def test_a_value_can_not_forge_a_field():
    found = rendered(event="x\nPRIORITY=0", level="info", **{"a b=c\nPRIORITY": "0"})
    assert found["PRIORITY"] == "6"
    assert found["MESSAGE"].startswith("x\nPRIORITY=0")


def test_a_line_that_the_journal_refuses_goes_to_standard_error(capsys, tmp_path):
    handler = journald.JournalHandler(str(tmp_path / "nobody"))
    handler.emit(logging.LogRecord("x", logging.INFO, "f", 1, "said anyway", None, None))
    handler.close()
    assert capsys.readouterr().err == "said anyway\n"


PROGRAM = """
import os, structlog
from appliance import config
from appliance.logs import journald, setup
journald.JournalHandler.__init__.__defaults__ = (os.environ["SOCKET"],)
setup.configure(config.load({}), "api")
structlog.get_logger("l").warning("told", topic="orders")
"""


@pytest.mark.parametrize("matches", [True, False])
def test_logs_go_to_the_journal_where_it_is_behind_standard_error(tmp_path, matches):
    path = tmp_path / "journal"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
        (tmp_path / "err").open("w+") as standard_error,
    ):
        server.bind(str(path))
        server.settimeout(10)
        status = os.fstat(standard_error.fileno())
        stream = f"{status.st_dev}:{status.st_ino + (not matches)}"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"JOURNAL_STREAM": stream, "SOCKET": str(path), "PATH": os.environ["PATH"]},
            stderr=standard_error,
            check=False,
        )
        assert done.returncode == 0
        standard_error.seek(0)
        if matches:
            found = fields(server.recv(65536))
            assert (found["MESSAGE"], found["PRIORITY"]) == ("told topic=orders", "4")
            assert found["APPLIANCE_TOPIC"] == "orders"
            assert standard_error.read() == ""
        else:
            assert json.loads(standard_error.read())["topic"] == "orders"
