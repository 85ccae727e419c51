"""The doctor's findings, each with a real cause where one can be made."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from appliance import config as configuration
from appliance.doctor import checks, data_folder
from appliance.doctor.diagnosis import Level
from appliance.errors import HostError
from appliance.model.ids import IdSource
from appliance.model.timestamps import timestamp
from appliance.model.wire import single
from appliance.store import open_store
from appliance.store.sqlite import health
from appliance.store.sqlite.database import sqlite3
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.writer import SqliteWriter

APPLIANCE = str(Path(sys.executable).with_name("appliance"))
IDS = IdSource()
NOBODY = 65534


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def config(data):
    return load(data)


def load(data, **values):
    environ = {f"APPLIANCE_{name.upper()}": value for name, value in values.items()}
    return configuration.load({"APPLIANCE_DATA": str(data), **environ})


def store(data, age):
    migrate(data / "appliance.db")
    writer = SqliteWriter(data / "appliance.db")
    writer.store([single("t", IDS.new(), timestamp(time.time() - age), b"x" * 2000)])
    return writer


@contextlib.contextmanager
def mounted(folder, *command):
    """Mount something on `folder`; needs root, as the whole of CI has."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def found(config, check):
    (finding,) = [
        each for each in checks.examine(config, open_store(config)) if each.check == check
    ]
    return finding


def level(finding):
    assert bool(finding.advice) == (finding.level is not Level.OK)
    return finding.level


# --- the disk ----------------------------------------------------------------------------------


def test_a_real_fuse_file_system_is_refused(tmp_path):
    (tmp_path / "below").mkdir()
    with mounted(tmp_path / "fuse", "bindfs", str(tmp_path / "below")) as folder:
        finding = data_folder.file_system(folder / "data")
        assert level(finding) is Level.ERROR
        assert "FUSE" in finding.found
        with pytest.raises(HostError, match="network or FUSE file system"):
            checks.at_start(config := load(folder / "data"), open_store(config), broker=False)
        done = subprocess.run(
            [APPLIANCE, "migrate"],
            env={**os.environ, "APPLIANCE_DATA": str(folder / "data")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 78
        assert "put the data folder on a local disk" in done.stderr
        assert list(folder.iterdir()) == []  # nothing was touched


LINE = "36 35 98:0 / {point} rw,noatime master:1 - {kind} source rw"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *((kind, Level.ERROR) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs")),
        *((kind, Level.ERROR) for kind in ("fuse", "fuse.sshfs", "fuseblk", "fakeowner")),
        *((kind, Level.WARNING) for kind in ("tmpfs", "overlay")),
        *((kind, Level.OK) for kind in ("ext4", "xfs", "btrfs", "zfs")),
    ],
)
def test_each_kind_of_file_system_is_judged(kind, expected, data):
    text = "\n".join([LINE.format(point="/", kind="ext4"), LINE.format(point=data, kind=kind)])
    assert level(data_folder.file_system(data, text)) is expected
    assert level(data_folder.file_system(data / "not" / "there" / "yet", text)) is expected
    assert data_folder.file_system(data.parent, text).level is Level.OK


def test_the_mount_that_shows_counts():
    text = "\n".join(
        [
            LINE.format(point="/", kind="ext4"),
            LINE.format(point="/srv", kind="nfs"),
            LINE.format(point="/srv", kind="xfs"),
            LINE.format(point="/srv/a\\040b", kind="9p"),
            LINE.format(point="/srvs", kind="cifs"),
            "nonsense",
        ]
    )
    assert data_folder.mount_of(Path("/srv/x"), text).kind == "xfs"
    assert data_folder.mount_of(Path("/srv/a b/x"), text).kind == "9p"
    assert data_folder.mount_of(Path("/srv2"), text).kind == "ext4"
    assert data_folder.mount_of(Path("/x"), "") is None


def test_a_data_folder_in_memory_is_warned_of_and_so_is_an_fsync_that_does_nothing(tmp_path):
    with mounted(tmp_path / "memory", "mount", "-t", "tmpfs", "-o", "mode=700", "none") as folder:
        finding = data_folder.file_system(folder)
        assert level(finding) is Level.WARNING
        assert "gone when the machine" in finding.found
        assert level(data_folder.fsync(folder)) is Level.WARNING
        assert list(folder.iterdir()) == []


def test_a_small_disk_is_too_full(tmp_path):
    options = "size=4m,nr_inodes=100,mode=700"
    with mounted(tmp_path / "small", "mount", "-t", "tmpfs", "-o", options, "none") as folder:
        space, inodes = data_folder.room(folder, 2**30)
        assert (level(space), level(inodes)) == (Level.ERROR, Level.ERROR)
        space, _ = data_folder.room(folder, 3 * 2**20)
        assert level(space) is Level.WARNING
        assert level(data_folder.room(folder, 2**20)[0]) is Level.OK


def test_writes_are_timed(data):
    finding = data_folder.fsync(data)
    assert finding.found.startswith("median ")
    assert list(data.iterdir()) == []


def test_a_folder_that_others_can_read_is_warned_of(config, data):
    data.chmod(0o755)
    finding = found(config, "folder")
    assert level(finding) is Level.WARNING
    assert finding.advice == f"chmod 700 {data}"


def test_a_file_of_another_user_is_an_error():
    """Run as root with another effective user, as the service has."""
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        mine = place / "mine"
        migrate(mine / "appliance.db")
        ours = place / "ours"
        migrate(ours / "appliance.db")
        os.chown(ours, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            results = [
                data_folder.owner(f, [f / "appliance.db"]) for f in (mine, ours, place / "new")
            ]
        finally:
            os.seteuid(0)
    finally:
        shutil.rmtree(place)
    assert [level(each) for each in results] == [Level.ERROR] * 3
    assert "belongs to root" in results[0].found
    assert "appliance.db belongs to root" in results[1].found
    assert f"chown -R {NOBODY}" in results[1].advice
    assert "can't make it" in results[2].found


def test_a_file_in_the_folders_place_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    finding = data_folder.owner(tmp_path / "file", [tmp_path / "file" / "appliance.db"])
    assert level(finding) is Level.ERROR


# --- the database ------------------------------------------------------------------------------


def test_a_newer_schema_is_an_error(config, data):
    store(data, 0).close()
    link = sqlite3.connect(data / "appliance.db")
    link.execute("PRAGMA user_version = 999")
    link.close()
    finding = found(config, "schema")
    assert level(finding) is Level.ERROR
    assert "schema 999 is newer" in finding.found


def test_a_damaged_database_is_an_error(config, data):
    store(data, 0).close()
    with (data / "appliance.db").open("r+b") as file:
        file.seek(8192 * 2)
        file.write(b"\xff" * 8192 * 3)
    finding = found(config, "database")
    assert level(finding) is Level.ERROR
    assert "restore a backup" in finding.advice


def test_an_old_sqlite_is_warned_of(config, monkeypatch):
    monkeypatch.setattr("appliance.store.sqlite.health.is_safe", lambda: False)
    assert level(found(config, "SQLite")) is Level.WARNING


def test_a_reader_that_keeps_the_log_is_named(config, data, monkeypatch):
    monkeypatch.setattr(health, "_LARGE_WAL", 1000)
    writer = store(data, 0)
    reader = sqlite3.connect(data / "appliance.db")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchone()
    finding = found(config, "write-ahead log")
    reader.close()
    writer.close()
    assert level(finding) is Level.WARNING
    assert f"({os.getpid()})" in finding.found


# --- broker, ports, clock, memory --------------------------------------------------------------


def test_data_of_a_broker_that_this_one_can_not_read_is_an_error_and_nothing_starts(data):
    (data / "broker").mkdir()
    (data / "broker" / "version").write_text("99.0.0\n")
    finding = found(load(data), "broker")
    assert level(finding) is Level.ERROR
    assert "was written by RabbitMQ 99.0.0" in finding.found
    done = subprocess.run(
        [APPLIANCE, "run"],
        env={**os.environ, "APPLIANCE_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 78
    assert "until its queue is empty" in done.stderr
    assert sorted(p.name for p in data.rglob("*")) == ["broker", "version"]


def test_a_port_that_something_else_listens_on_is_an_error(data):
    with listening() as http, listening() as amqp:
        busy = load(data, http=http, amqp=amqp)
        assert level(found(busy, "HTTP port")) is Level.ERROR
        assert level(found(busy, "AMQP port")) is Level.ERROR
    assert level(found(busy, "HTTP port")) is Level.OK


def test_an_outside_broker_needs_no_port(data):
    other = load(data, broker_url="amqp://elsewhere")
    outside = list(checks.examine(other, open_store(other)))
    assert "AMQP port" not in [each.check for each in outside]


def test_a_clock_that_was_never_set_is_an_error(config, monkeypatch):
    monkeypatch.setattr(checks.time, "time", lambda: 86_400.0)
    assert level(checks._clock(open_store(config).health)) is Level.ERROR


def test_a_clock_behind_the_newest_message_is_warned_of(config, data):
    store(data, -3600).close()
    assert level(found(config, "clock")) is Level.WARNING
    store(data, 0).close()
    assert level(found(config, "clock")) is Level.OK


def test_little_memory_is_warned_of_and_less_than_the_least_is_an_error(config, monkeypatch):
    for mib, wanted in ((511, Level.WARNING), (384, Level.WARNING), (383, Level.ERROR)):
        monkeypatch.setattr("appliance.machine.memory.limit", lambda mib=mib: mib * 2**20)
        finding = found(config, "memory")
        assert level(finding) is wanted
        assert f"{mib} MiB (limited)" in finding.found
    monkeypatch.setattr("appliance.machine.memory.limit", lambda: 512 * 2**20)
    assert level(found(config, "memory")) is Level.OK


# --- the command -------------------------------------------------------------------------------


def command(data, *arguments, **values):
    environ = {f"APPLIANCE_{name.upper()}": value for name, value in values.items()}
    return subprocess.run(
        [APPLIANCE, "doctor", *arguments],
        env={**os.environ, "APPLIANCE_DATA": str(data), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_ends_with_1_where_there_is_an_error(data):
    with listening() as http:
        done = command(data, http=http)
    assert done.returncode == 1
    assert "error    HTTP port" in done.stdout
    assert "-> end the program that listens there" in done.stdout


def test_the_command_speaks_json(data):
    with listening() as http:
        done = command(data, "--json", http=http)
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (1, False)
    (port,) = [each for each in told["findings"] if each["check"] == "HTTP port"]
    assert (port["level"], set(port)) == ("error", {"check", "level", "found", "advice"})
