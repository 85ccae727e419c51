"""Secrets that the appliance makes for itself."""

import os
import stat
import subprocess
import sys

import pytest

from appliance import credentials
from appliance.config import load
from appliance.errors import FolderError

#: Waits for a line, so that all are imported before any begins.
RACER = """
import sys
from pathlib import Path
from appliance import credentials
from appliance.config import load
config = load({"APPLIANCE_DATA": sys.argv[1]})
print("ready", flush=True)
sys.stdin.readline()
print(credentials.token(config), credentials.broker_password(config))
"""


def config_of(folder, **values):
    return load({"APPLIANCE_DATA": str(folder), **values})


def test_processes_that_start_at_once_get_one_secret(tmp_path):
    data = tmp_path / "data"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = {racer.communicate(timeout=30)[0] for racer in racers}
    assert len(answers) == 1
    token, password = answers.pop().split()
    assert token != password
    assert min(len(token), len(password)) >= 43  # 256 bits in base64
    assert sorted(p.name for p in data.iterdir()) == ["broker", "token"]  # no draft is left
    for path in (data / "token", data / "broker" / "password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0)
    try:
        credentials.token(config_of(tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_the_secret_stays_the_same(tmp_path):
    assert credentials.token(config_of(tmp_path)) == credentials.token(config_of(tmp_path))


def test_a_given_token_is_used_and_none_is_made(tmp_path):
    assert (
        credentials.token(config_of(tmp_path, APPLIANCE_TOKEN="given-by-me-and-not-short"))
        == "given-by-me-and-not-short"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_a_token_that_can_be_guessed_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "token").write_text("hunter2\n")
    with pytest.raises(FolderError, match=r"^APPLIANCE_DATA: .*remove the file"):
        credentials.token(config_of(tmp_path))


def test_an_empty_file_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "token").write_text("\n")
    with pytest.raises(FolderError, match=r"^APPLIANCE_DATA: .*remove it"):
        credentials.token(config_of(tmp_path))


def test_a_folder_that_cannot_be_made_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"^APPLIANCE_DATA: .*give the folder"):
        credentials.token(config_of(tmp_path / "file" / "data"))
