"""What the node's files need so that a power cut in its first seconds harms nobody."""

import os
from pathlib import Path

import pytest

from appliance.broker.node import start, synced
from appliance.broker.node.layout import Layout


@pytest.fixture
def fsynced(monkeypatch):
    """Record which paths are synced."""
    found = []
    real = os.fsync

    def fsync(descriptor):
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


@pytest.fixture
def layout(tmp_path):
    """The files of a node that has a database."""
    made = Layout(tmp_path / "data" / "broker")
    (made.database / "quorum").mkdir(parents=True)
    (made.database / "quorum" / "names.dets").write_bytes(b"")
    return made


def test_every_file_and_every_folder_is_synced(layout, fsynced):
    synced.sync(layout.home)
    below = {layout.home, *layout.home.rglob("*")}
    assert set(fsynced) == below | {layout.home.parent}


def test_a_file_that_the_node_removes_meanwhile_is_passed_over(layout, fsynced, monkeypatch):
    names = layout.database / "quorum" / "names.dets"
    walk = os.walk

    def walk_and_remove(folder):
        found = list(walk(folder))
        names.unlink()
        return found

    monkeypatch.setattr(os, "walk", walk_and_remove)
    synced.sync(layout.home)
    assert names not in fsynced
    assert names.parent in fsynced


def test_a_mark_is_on_disk_with_its_name(layout, fsynced):
    synced.mark(layout.home, synced.DATABASE)
    assert fsynced == [layout.home / synced.DATABASE, layout.home]


def test_a_database_that_never_was_safe_is_set_aside(layout):
    assert start.set_aside(layout)
    assert not layout.database.exists()
    assert (layout.home / "db.unfinished" / "quorum" / "names.dets").exists()


def test_only_the_last_one_that_was_set_aside_is_kept(layout):
    (layout.home / "db.unfinished").mkdir()
    (layout.home / "db.unfinished" / "older").touch()
    assert start.set_aside(layout)
    assert [path.name for path in (layout.home / "db.unfinished").iterdir()] == ["quorum"]


@pytest.mark.parametrize("name", [synced.DATABASE, synced.QUEUE])
def test_a_database_that_was_safe_once_is_never_touched(layout, name):
    synced.mark(layout.home, name)
    assert not start.set_aside(layout)
    assert layout.database.exists()


def test_a_folder_without_a_database_has_nothing_to_set_aside(tmp_path):
    assert not start.set_aside(Layout(tmp_path))
