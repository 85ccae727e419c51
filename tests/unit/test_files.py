"""Private files: whole or not there, and readable by one user only."""

import os

import pytest

from appliance.machine import files


def test_a_private_file_takes_the_place_of_the_one_that_is_there(tmp_path):
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    files.write_private(path, "näw", 0o400, "latin-1")
    assert path.read_bytes() == b"n\xe4w"
    assert path.stat().st_mode & 0o777 == 0o400
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_that_can_not_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    path.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_private(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    files.write_private(path, "new")  # the draft that was left is no hindrance
    assert path.read_text() == "new"


def test_a_file_that_is_written_once_stays_as_the_first_writer_left_it(tmp_path):
    path = tmp_path / "secret"
    assert files.write_private_once(path, "first")
    assert not files.write_private_once(path, "second")
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_can_not_be_synced(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.sync(tmp_path / "missing")
    files.sync(tmp_path)
