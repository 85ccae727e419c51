"""Several writers at once, with checkpoints and a reader between them: SQLite's hard case.

The appliance has one active worker. A standby that takes over while the old one still commits, the
janitor and a restored backup make it more than one now and then.
"""

import subprocess
import sys
import time

import pytest
from harness import Folder, environment

WRITERS = 4

#: Stores envelopes as fast as it can, of its own topic and of one that all share, until its
#: standard input ends; then prints how many. Where the others leave it no turn it tries again, as
#: the worker does: SQLite's lock is not fair.
WRITE = """
import select, sys, uuid
from pathlib import Path
from appliance.errors import StoreError
from appliance.model.wire import Envelope, Kind
from appliance.model.timestamps import now
from appliance.store.sqlite.writer import SqliteWriter

path, name = Path(sys.argv[1]), sys.argv[2]
writer, stored = SqliteWriter(path), 0
while not select.select([sys.stdin], [], [], 0)[0]:
    group = []
    for topic in (f"writer-{name}", "all") * 5:
        body = f"{name} {stored}".encode()
        group.append(
            Envelope(topic, Kind.MESSAGE, str(uuid.uuid4()), now(), 1, len(body), body)
        )
        stored += 1
    while True:
        try:
            writer.store(group)
            break
        except StoreError:
            writer.close()
            writer = SqliteWriter(path)
print(stored)
"""
#: Checkpoints as the janitor does, but over and over.
CHECKPOINT = """
import select, sys
from pathlib import Path
from appliance.store.sqlite import upkeep
count = 0
while not select.select([sys.stdin], [], [], 0.02)[0]:
    upkeep.checkpoint(Path(sys.argv[1]))
    count += 1
print(count)
"""


class Store(Folder):
    def __init__(self, folder):
        self.data = folder
        self.env = environment(folder)

    def run(self, code, *arguments):
        return subprocess.Popen(
            [sys.executable, "-c", code, self.database, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


@pytest.mark.parametrize(
    "seconds", [15, pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_four_writers_and_checkpoints_leave_a_whole_database(tmp_path, seconds):
    store = Store(tmp_path)
    store.cli("migrate").check_returncode()
    started = [store.run(WRITE, str(number)) for number in range(WRITERS)]
    started.append(store.run(CHECKPOINT))
    try:
        end, looks = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            assert store.query("PRAGMA quick_check")[0][0] == "ok"
            looks += 1
            time.sleep(0.2)
        outputs = [process.communicate(timeout=120)[0] for process in started]
        assert [process.returncode for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()
            process.wait()
    *stored, checkpoints = map(int, outputs)
    print(f"{sum(stored)} messages by {WRITERS} writers, {checkpoints} checkpoints, {looks} looks")
    assert min(stored) > 0
    assert checkpoints > 1
    assert store.query("PRAGMA integrity_check")[0][0] == "ok"
    assert store.count() == sum(stored)
    for number, count in enumerate(stored):
        bodies = [
            row["body"]
            for row in store.query(
                "SELECT body FROM messages WHERE body LIKE ? ORDER BY seq", f"{number} %"
            )
        ]
        assert bodies == [f"{number} {n}" for n in range(count)]
    sums = {row["topic"]: row["messages"] for row in store.query("SELECT * FROM topics")}
    counted = {
        row[0]: row[1] for row in store.query("SELECT topic, count(*) FROM messages GROUP BY topic")
    }
    assert sums == counted
    assert len(sums) == WRITERS + 1
