"""The bell tells those who wait, and nobody else; what gets lost is said to be."""

import os
import socket
import stat
import subprocess
import sys

import pytest

from appliance.machine.bell import Bell, BellListener

NAMES = ["01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"]
#: A process that waits, and is killed.
WAITING = """
import sys, time
from pathlib import Path
from appliance.machine.bell import BellListener
listener = BellListener(Path(sys.argv[1]))
print("waiting", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run" / "commits"


@pytest.fixture
def bell(folder):
    bell = Bell(folder)
    yield bell
    bell.close()


@pytest.fixture
def listen(folder):
    made = []

    def listen(where=folder):
        made.append(BellListener(where))
        return made[-1]

    yield listen
    for each in made:
        each.close()


def ring(bell, names):
    if bell.is_awaited:
        bell.ring(names)


def kill_one_that_waits(folder):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.kill()


def test_bell_is_awaited_as_long_as_anybody_waits(bell, folder, listen):
    assert not bell.is_awaited
    first = listen()
    assert bell.is_awaited
    second = listen()
    first.close()
    assert bell.is_awaited
    second.close()
    assert not bell.is_awaited
    assert not list(folder.iterdir())


def test_bell_tells_everybody_who_waits(bell, listen):
    first, second = listen(), listen()
    ring(bell, NAMES)
    assert first.read() == second.read() == (NAMES, False)
    ring(bell, NAMES[:1])
    ring(bell, None)
    assert first.read() == (NAMES[:1], True)
    assert first.read() == ([], False)


def test_bell_of_no_names_tells_nothing(bell, listen):
    listener = listen()
    ring(bell, [])
    assert listener.read() == ([], False)


def test_bell_sees_each_who_comes_however_soon(bell, listen):
    for _ in range(300):
        listener = listen()
        ring(bell, NAMES)
        assert listener.read() == (NAMES, False)
        listener.close()
        assert not bell.is_awaited


def test_bell_says_that_there_is_more_where_names_would_be_too_many(bell, listen):
    listener = listen()
    ring(bell, NAMES * 1000)
    assert listener.read() == ([], True)


def test_bell_says_that_there_was_more_to_a_slow_listener(bell, listen):
    listener = listen()
    for _ in range(2000):  # more than any kernel keeps
        ring(bell, NAMES)
    names, more = listener.read()
    assert (set(names), more) == (set(NAMES), False)
    while listener.read()[0]:
        pass
    ring(bell, NAMES)
    assert listener.read() == ([], True)
    ring(bell, NAMES)
    assert listener.read() == (NAMES, False)


def test_socket_is_reached_by_its_own_user_only(folder, listen):
    listen()
    (path,) = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_socket_of_a_killed_process_is_taken_away_by_the_bell(bell, folder, listen):
    listener = listen()
    kill_one_that_waits(folder)
    assert len(list(folder.iterdir())) == 2
    ring(bell, NAMES)
    assert len(list(folder.iterdir())) == 1
    assert listener.read() == (NAMES, False)


def test_socket_of_a_killed_process_is_taken_away_by_the_next_that_waits(folder, listen):
    listen()
    kill_one_that_waits(folder)
    listen()
    assert len(list(folder.iterdir())) == 2


def test_bell_in_a_folder_with_a_long_path_is_heard(tmp_path, listen):
    folder = tmp_path / ("a" * 120) / "commits"
    listener, bell = listen(folder), Bell(folder)
    ring(bell, NAMES)
    assert listener.read() == (NAMES, False)
    bell.close()


def test_bell_is_not_disturbed_by_other_files(bell, folder, listen):
    listener = listen()
    (folder / "README.md").write_text("x")
    (folder / "file").write_text("x")
    for _ in range(3):
        ring(bell, NAMES)
    assert listener.read() == (NAMES * 3, False)
    assert (folder / "file").exists()


def test_listener_reads_whatever_comes(folder, listen):
    listener = listen()
    (path,) = folder.iterdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        for data in (b"", b"=", b"\xff\xfe\n\n", b"=" + os.urandom(1000), b"=" + b"x" * 60_000):
            other.sendto(data, str(path))
    names, more = listener.read()
    assert more
    assert all(isinstance(name, str) for name in names)
