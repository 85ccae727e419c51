"""The janitor's duties, each done on real files."""

import threading
import time

import pytest

from appliance import config as configuration
from appliance.errors import BackupRoomError
from appliance.janitor import Janitor
from appliance.machine.pulse import Pulse
from appliance.store import open_store


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def janitor(tmp_path, stop):
    def make(**values):
        environ = {f"APPLIANCE_{name.upper()}": value for name, value in values.items()}
        config = configuration.load({"APPLIANCE_DATA": str(tmp_path), **environ})
        return Janitor(config, open_store(config), Pulse(config, "janitor"), stop)

    return make


@pytest.fixture
def database(tmp_path):
    migrate(tmp_path)


def migrate(folder):
    open_store(configuration.load({"APPLIANCE_DATA": str(folder)})).migrate()


def back_up(keeper):
    """Run the janitor's own duty; those of the store come before it."""
    return keeper.duties[-1].run()


def copies(tmp_path):
    folder = tmp_path / "backups"
    return sorted(path.name for path in folder.glob("*"))


def test_a_backup_is_made_when_the_last_one_is_old_enough(janitor, tmp_path, database):
    keeper = janitor(backup_every="1h", backup_keep="2", min_free_bytes="0")
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in (1, 2, 3):
        (folder / f"scheduled-2026010{day}T000000Z.db").touch()
    assert back_up(keeper) <= 60
    assert copies(tmp_path)[0] == "scheduled-20260103T000000Z.db"
    assert len(copies(tmp_path)) == 2
    back_up(keeper)
    assert len(copies(tmp_path)) == 2  # the last one is of this hour


def test_a_backup_dated_in_the_future_does_not_count(janitor, tmp_path, database):
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "scheduled-20990101T000000Z.db").touch()
    back_up(janitor(backup_every="1h", min_free_bytes="0"))
    assert len(copies(tmp_path)) == 2


def test_old_backups_are_deleted_only_after_a_new_one_was_made(janitor, tmp_path, database):
    (tmp_path / "backups").mkdir()
    for day in (1, 2, 3):
        (tmp_path / "backups" / f"scheduled-2026010{day}T000000Z.db").touch()
    keeper = janitor(backup_every="1h", backup_keep="1", min_free_bytes="1000000GiB")
    with pytest.raises(BackupRoomError):
        back_up(keeper)
    assert len(copies(tmp_path)) == 3


def test_a_failing_duty_is_logged_once_and_so_is_its_end(janitor, tmp_path, monkeypatch):
    said = []

    class Log:
        def warning(self, text, **_):
            said.append(text)

        info = warning

    monkeypatch.setattr("appliance.janitor._log", Log())
    keeper = janitor(backup_every="1h", min_free_bytes="0")
    duty = keeper.duties[-1]
    assert keeper.perform(duty) > 60
    keeper.perform(duty)
    assert said == ["scheduled backup failed"]
    migrate(tmp_path)
    keeper.perform(duty)
    assert said[1:] == ["scheduled backup made", "scheduled backup works again"]


def test_the_janitor_ends_soon_after_it_is_told_to(janitor, database, stop):
    keeper = janitor()
    thread = threading.Thread(target=keeper.run)
    thread.start()
    time.sleep(0.1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
