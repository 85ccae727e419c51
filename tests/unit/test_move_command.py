"""The options of `appliance export` that move the database, without an appliance that runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

APPLIANCE = str(Path(sys.executable).with_name("appliance"))


@pytest.fixture
def command(tmp_path):
    """Run `appliance`, its data in a folder of the test's own."""

    def run(*arguments):
        return subprocess.run(
            [APPLIANCE, *arguments],
            env={
                "PATH": os.environ["PATH"],
                "APPLIANCE_DATA": str(tmp_path / "data"),
                "APPLIANCE_MIN_FREE_BYTES": "0",
            },
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("secret", ["me:secret@host/db", "me@host/db?password=secret"])
def test_a_password_is_refused_as_an_argument_and_not_repeated(command, secret):
    done = command("export", "--to", f"postgresql://{secret}")
    assert done.returncode == 2
    assert "--to-file" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("orders", "--to", "sqlite:"), "leave out what chooses"),
        (("--undo", "--where", "a=1"), "leave out what chooses"),
        (("--undo", "--to", "sqlite:"), "leave out --to"),
        (("--to", "sqlite:", "--to-file", "/url"), "either --to or --to-file"),
        (("--to", "mysql://host/db"), "expected postgresql://"),
        (("--to", ""), "expected postgresql://"),
        (("--undo",), "give --yes"),
        (("--to", "sqlite:", "--yes"), "--yes needs --undo"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(command, arguments, words):
    done = command("export", *arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_a_file_with_a_url_that_is_not_there_is_named(command, tmp_path):
    done = command("export", "--to-file", str(tmp_path / "none"))
    assert done.returncode == 78
    assert f"--to-file: {tmp_path}/none can't be read" in done.stderr


def test_a_file_that_was_left_is_refused_at_each_start_until_the_move_is_undone(command, tmp_path):
    assert command("migrate").returncode == 0
    done = command("export", "--to", f"sqlite:{tmp_path}/other.db")
    assert done.returncode == 0, done.stderr
    assert "access_version" in done.stdout
    assert "the same in both" in done.stdout
    assert "next: stop the appliance" in done.stderr
    assert (tmp_path / "other.db").stat().st_mode & 0o777 == 0o600

    refused = command("migrate")
    assert refused.returncode == 1
    assert f"were moved to {tmp_path}/other.db at 20" in refused.stderr
    again = json.loads(command("export", "--to", f"sqlite:{tmp_path}/other.db", "--json").stdout)
    assert again["to"] == f"{tmp_path}/other.db"

    undone = command("export", "--undo", "--yes")
    assert undone.returncode == 0, undone.stderr
    assert "undone" in undone.stderr
    assert "was not moved" in command("export", "--undo", "--yes").stderr
    assert command("migrate").returncode == 0
