"""supervisord's log files where the disk takes no more: /dev/full is one that never does."""

import xmlrpc.client
from pathlib import Path

import pytest
from supervisor import rpcinterface
from supervisor.loggers import LevelsByName, LogRecord, RotatingFileHandler

from appliance.supervision import log_files


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(RotatingFileHandler, "emit", RotatingFileHandler.emit)
    monkeypatch.setattr(RotatingFileHandler, "handleError", RotatingFileHandler.handleError)
    lines = []
    log_files.forgive(lines.append)
    return lines


def log(handler, text):
    handler.emit(LogRecord(LevelsByName.INFO, text))


def test_a_full_disk_is_said_once_and_so_is_its_end(said, tmp_path, capfd):
    handler = RotatingFileHandler(str(tmp_path / "log"), maxBytes=1000, backupCount=1)
    written = handler.stream
    with Path("/dev/full").open("wb", 0) as handler.stream:
        for number in range(100):
            log(handler, f"line {number}")
    assert said == ["log files can't be written: [Errno 28] No space left on device"]
    handler.stream = written
    log(handler, "there is room\n")
    log(handler, "and more\n")
    assert said[1:] == ["log files are written again"]
    assert (tmp_path / "log").read_text() == "there is room\nand more\n"
    assert capfd.readouterr().err == ""
    handler.stream.close()


def test_a_file_that_can_not_be_rolled_over_goes_on(said, tmp_path, monkeypatch):
    handler = RotatingFileHandler(str(tmp_path / "log"), maxBytes=100, backupCount=1)

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handler, "removeAndRename", no_room)
    log(handler, "x" * 200)
    assert len(said) == 1
    monkeypatch.undo()
    log_files.forgive(said.append)
    log(handler, "y\n")
    log(handler, "z\n")
    assert (tmp_path / "log.1").read_text().startswith("x" * 200)
    assert (tmp_path / "log").read_text() == "z\n"
    handler.stream.close()


def test_control_characters_do_not_get_into_a_log_file(said, tmp_path):
    handler = RotatingFileHandler(str(tmp_path / "log"), maxBytes=1000, backupCount=1)
    log(handler, b"\x1b[31mred\x1b[0m \xff\r\n")
    assert (tmp_path / "log").read_bytes() == b"\\x1b[31mred\\x1b[0m \xff\n"
    handler.stream.close()


def test_an_answer_of_supervisord_is_xml_whatever_a_log_file_holds(monkeypatch):
    monkeypatch.setattr(rpcinterface, "as_string", rpcinterface.as_string)
    log_files.answer_with_text()
    text = rpcinterface.as_string(b"\x1b[31mred \xff\0 \xc3\xbc\n")
    assert text == "\\x1b[31mred \\xff\\x00 ü\n"
    assert xmlrpc.client.loads(xmlrpc.client.dumps((text,)))[0] == (text,)


def test_an_error_that_is_none_of_the_disk_is_still_shown(said, tmp_path, capfd):
    handler = RotatingFileHandler(str(tmp_path / "log"), maxBytes=100, backupCount=1)
    handler.fmt = "%(nothing)s"
    log(handler, "x")
    assert "KeyError" in capfd.readouterr().err
    assert said == []
    handler.stream.close()
