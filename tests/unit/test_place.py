"""Copies of a data folder, and broker's files of another one."""

import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from appliance import config as configuration
from appliance.machine import place
from appliance.machine.place import Move
from appliance.store.sqlite import usage


@pytest.fixture
def config(tmp_path):
    made = configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")})
    made.broker_home.mkdir(parents=True)
    return made


def copied(config, tmp_path):
    """Return the settings of a copy, as `cp -a` makes it."""
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-a", config.data, copy], check=True)
    return configuration.load({"APPLIANCE_DATA": str(copy)})


def events(folder):
    with capture_logs() as logs:
        place.enter(folder)
    return [line["event"] for line in logs]


def test_a_folder_that_stays_is_no_copy_in_use_or_not(config):
    assert events(config.data) == []
    assert place.look(config.data) is Move.NONE
    place.leave(config.data)
    assert events(config.data) == []
    assert place.problem(config) is None


def test_a_folder_that_is_moved_on_its_disk_is_no_copy(config, tmp_path):
    place.enter(config.data)
    config.data.rename(tmp_path / "moved")
    assert place.look(tmp_path / "moved") is Move.NONE


def test_a_copy_of_a_folder_in_use_is_refused_with_what_to_do(config, tmp_path):
    place.enter(config.data)
    copy = copied(config, tmp_path)
    found, advice = place.problem(copy)
    assert "is a copy of a data folder that was in use" in found
    assert str(copy.data / "place") in advice
    assert events(copy.data) == []  # whoever only looks changes nothing
    place.leave(copy.data)
    assert place.problem(copy)
    (copy.data / "place").unlink()  # as the advice says
    assert place.problem(copy) is None
    assert events(copy.data) == []
    assert place.problem(config) is None


def test_a_copy_of_a_folder_that_nothing_used_is_taken_over_and_said(config, tmp_path):
    place.enter(config.data)
    place.leave(config.data)
    copy = copied(config, tmp_path)
    assert place.problem(copy) is None
    assert events(copy.data) == ["data folder moved or copied"]
    assert events(copy.data) == []


def test_the_last_process_that_ends_notes_that_the_folder_is_not_in_use(config, tmp_path):
    database = config.data / "appliance.db"
    with usage.shared(database):
        with usage.shared(database):
            pass
        assert place.look(copied(config, tmp_path).data) is Move.COPIED_IN_USE
    shutil.rmtree(tmp_path / "copy")
    assert place.look(copied(config, tmp_path).data) is Move.MOVED


def test_brokers_files_of_another_folder_are_refused_with_what_to_do(config, tmp_path):
    place.name(config)
    other = configuration.load({"APPLIANCE_DATA": str(tmp_path / "other")})
    other.broker_home.mkdir(parents=True)
    place.name(other)
    shutil.rmtree(config.broker_home)
    shutil.copytree(other.broker_home, config.broker_home)
    found, advice = place.problem(config)
    assert "the broker's files of another data folder" in found
    (config.broker_home / "identity").unlink()
    assert str(config.broker_home / "identity") in advice
    assert place.problem(config) is None
    place.name(config)
    assert place.problem(config) is None


@pytest.mark.parametrize("whose", ["data", "broker"])
def test_a_name_that_is_missing_is_taken_from_the_other_one(config, whose):
    place.name(config)
    path = (config.data if whose == "data" else config.broker_home) / "identity"
    before = path.read_text()
    path.unlink()
    assert place.problem(config) is None
    place.name(config)
    assert path.read_text() == before


@pytest.mark.parametrize("text", ["", "[]", '{"inode": "x", "in_use": 1}', "\udcff{", "x" * 5000])
def test_a_note_that_cant_be_read_is_written_anew(config, text):
    config.data.joinpath("place").write_text(text, errors="surrogateescape")
    assert place.problem(config) is None
    place.enter(config.data)
    assert place.look(config.data) is Move.NONE


def test_processes_that_start_at_once_on_a_new_folder_take_it_for_no_copy(config):
    """Each puts its note in place of the others'; to look meanwhile finds one of them whole."""
    start = threading.Barrier(2)

    def enter() -> None:
        start.wait()
        for _ in range(300):
            place.leave(config.data)
            place.enter(config.data)

    with ThreadPoolExecutor(1) as other:
        entering = other.submit(enter)
        start.wait()
        found = set()
        while not entering.done():
            found.add(place.look(config.data))
        entering.result()
    assert found == {Move.NONE}
