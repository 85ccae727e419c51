"""supervisord's log files where the disk takes no more: /dev/full is one that never does."""

from pathlib import Path

import pytest
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


def test_what_is_no_trouble_of_the_disk_is_still_shown(said, tmp_path, capfd):
    handler = RotatingFileHandler(str(tmp_path / "log"), maxBytes=100, backupCount=1)
    handler.fmt = "%(nothing)s"
    log(handler, "x")
    assert "KeyError" in capfd.readouterr().err
    assert said == []
    handler.stream.close()
