"""The last lines of a process's log, from supervisord's files and from the journal."""

import json

import pytest

from appliance import config as configuration
from appliance.supervision import process_logs, processes
from appliance.supervision.state import ProcessState


@pytest.fixture
def config(tmp_path, monkeypatch):
    running = [ProcessState(name, "RUNNING", 1, 1.0, "") for name in ("api", "worker:worker_0")]
    monkeypatch.setattr(processes, "read", lambda _: running)
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path)})
    (config.run_folder / "log").mkdir(parents=True)
    config.supervisor_socket.touch()
    return config


def write(config, name, *lines, encoding="utf-8"):
    (config.run_folder / "log" / name).write_bytes(
        "".join(f"{x}\n" for x in lines).encode(encoding)
    )


def read(config, process="api", most=100, level="debug"):
    log = process_logs.read(config, process, most, level)
    return None if log is None else [(line.level, line.text) for line in log.lines]


def test_the_last_lines_are_those_of_both_files_in_order(config):
    write(config, "api.log.1", "one", "two")
    write(config, "api.log", "three", "four")
    assert [text for _, text in read(config, most=3)] == ["two", "three", "four"]


def test_a_process_of_a_group_has_a_file_of_its_own(config):
    write(config, "worker_0.log", "x")
    assert read(config, "worker:worker_0") == [("info", "x")]
    assert process_logs.read(config, "api", 10, "debug").note == "nothing was logged yet"


@pytest.mark.parametrize(
    "name", ["", "nobody", "../token", "worker_0", "api.log", "worker:*", "\0", "a" * 5000]
)
def test_a_process_that_there_is_not_has_no_log(config, name):
    assert read(config, name) is None


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ('{"event": "x", "level": "warning", "time": "2026-01-31T12:00:00Z"}', "warning"),
        ('{"event": "x", "level": "nonsense"}', "info"),
        ('{"event": "x", "level": 7}', "info"),
        ("18:37:10 WARNING broker unavailable", "warning"),
        ("18:37:10 broker connected", "info"),
        ("2026-11-21 18:37:10.123456+00:00 [error] <0.1.0> oh", "error"),
        ("2026-11-21 18:37:10.123456+00:00 [notice] <0.1.0> oh", "info"),
        ("2026-11-21 18:37:10,123 WARN received SIGTERM", "warning"),
        ("anything", "info"),
        ("{", "info"),
        ("{" * 3000, "info"),
        ("[" * 3000, "info"),
    ],
)
def test_the_level_of_a_line_is_the_one_that_it_names(config, text, level):
    write(config, "api.log", text)
    assert read(config) == [(level, text)]


def test_a_line_that_names_no_level_belongs_to_the_line_before(config):
    write(
        config, "api.log", "18:37:10 ERROR request failed", "Traceback", "  a line", "18:37:11 ok"
    )
    assert [text for _, text in read(config, level="warning")] == [
        "18:37:10 ERROR request failed", "Traceback", "  a line",
    ]  # fmt: skip


def test_a_log_is_bounded_whatever_is_in_it(config):
    write(config, "api.log", "x" * 2_000_000, *(f"line {n}" for n in range(2000)))
    lines = read(config, most=1000)
    assert len(lines) == 1000
    assert lines[-1] == ("info", "line 1999")
    write(config, "api.log", "y" * 100_000)
    assert [len(text) for _, text in read(config)] == [4000]


def test_bytes_that_are_no_text_are_shown_as_such(config):
    (config.run_folder / "log" / "api.log").write_bytes(b"a\xff\xfe\0b\n")
    ((_, text),) = read(config)
    assert text.startswith("a\ufffd")


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (
            json.dumps({"MESSAGE": "hello", "PRIORITY": "4", "__REALTIME_TIMESTAMP": "1000000"}),
            [("warning", "1970-01-01T00:00:01.000Z", "hello")],
        ),
        (
            json.dumps({"MESSAGE": [104, 255, 999], "PRIORITY": "6"}),
            [("info", "1970-01-01T00:00:00.000Z", "h\ufffd")],
        ),
        ("nonsense\n{}\n[]\n7", [("info", "1970-01-01T00:00:00.000Z", "None")]),
    ],
)
def test_lines_of_the_journal_are_shown_in_the_same_form(
    config, tmp_path, monkeypatch, answer, lines
):
    config.supervisor_socket.unlink()
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{answer}\nE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    log = process_logs.read(config, "api", 10, "debug")
    assert (log.source, [tuple(line) for line in log.lines]) == ("journal", lines)


def test_a_journal_that_may_not_be_read_is_said_with_the_way_out(config, tmp_path, monkeypatch):
    config.supervisor_socket.unlink()
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    log = process_logs.read(config, "api", 10, "debug")
    assert log.lines == []
    assert "journalctl -u appliance-api" in log.note
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert "journalctl -u appliance-api" in process_logs.read(config, "api", 10, "debug").note
