"""The SQLite store as it is opened: where its file is, and what a process that opens it carries."""

import subprocess
import sys

import pytest

from appliance import config as configuration
from appliance.store import open_store


def test_the_database_is_in_the_data_folder(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    assert store.location == str(tmp_path / "appliance.db")
    assert store.health.files() == [
        tmp_path / name for name in ("appliance.db", "appliance.db-wal", "appliance.db-shm")
    ]


@pytest.mark.parametrize(
    ("use", "spared"),
    [
        ("store.open_writer", ["backup", "restore", "verify", "sweeper", "commits"]),
        ("store.reader, store.commits, store.dead_letters", ["writer", "restore", "sweeper"]),
    ],
)
def test_a_process_carries_only_the_modules_that_it_uses(tmp_path, use, spared):
    code = (
        "import os, sys\n"
        "from appliance.config import load\n"
        "from appliance.store import open_store\n"
        "store = open_store(load({'APPLIANCE_DATA': sys.argv[1]}))\n"
        f"{use}\n"
        f"print([name for name in {spared} if f'appliance.store.sqlite.{{name}}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
