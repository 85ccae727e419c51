"""The power is cut while the database is looked after."""

import contextlib
import sqlite3
import time
import uuid

import sqlite_utils
from cuts import Bench, kept
from load import MIXED, Load, check_sums
from sqlite_file import file_database

from appliance.errors import StoreError
from appliance.model.retention import parse_rules
from appliance.store.sql.sweeper import Sweeper
from appliance.store.sqlite import migrations, upkeep

#: Messages of a topic of which `KEPT` stay.
OLD = 5000
KEPT = 100


def test_during_a_checkpoint(bench, share, examine):
    one, cuts = bench(), []
    stack = one.start()
    count = share(0.1)
    with Load(stack, "checkpoint", senders=8, styles=MIXED, rate=600) as load:
        while len(cuts) < count:
            load.wait_accepted(800)
            cuts += one.cut_during(lambda: upkeep.checkpoint(stack.database), 3, load)
    kept(examine(one, cuts[:count]))


def test_during_a_backup(bench, share, examine):
    one, cuts = bench(), []
    stack = one.start()
    count = share(0.1)
    with Load(stack, "backup", senders=8, styles=MIXED, rate=600) as load:
        load.wait_accepted(2000)
        while len(cuts) < count:
            cuts += one.cut_during(lambda: backup(stack), 3, load, pause=0.1)
    kept(examine(one, cuts[:count]))


def backup(stack):
    done = stack.cli("backup", str(stack.data / f"{uuid.uuid4()}.db"))
    assert done.returncode == 0, done.stderr.decode()


def test_while_old_messages_are_deleted(bench, share, examine):
    """From the oldest on, with counts that stay true; what is under way is not touched."""
    one, cuts = bench(SweptBench), []
    stack = one.start()
    count = share(0.1)
    with Load(stack, "sweep", senders=8, styles=MIXED, rate=100) as load:
        load.wait_accepted(100)
        while len(cuts) < count:
            add_old(stack.database)
            cuts += one.cut_during(lambda: sweep(stack.database), 3, load, pause=0.2)
    kept(examine(one, cuts[:count]))


class SweptBench(Bench):
    def drain(self, stack):
        super().drain(stack)
        check_sums(stack, ["old"])
        last, rows = stack.query("SELECT max(seq), count(*) FROM messages WHERE topic = 'old'")[0]
        assert KEPT <= rows <= KEPT + OLD
        newest = stack.query("SELECT body FROM messages WHERE seq = ?", last)[0][0]
        assert newest == f"old {OLD}"


def add_old(path):
    """Put in what has been there since last year, as if the worker had stored it."""
    link = sqlite3.connect(path, isolation_level=None, timeout=30)
    link.executescript(f"""
        BEGIN IMMEDIATE;
        INSERT INTO messages (id, topic, body, received_at)
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {OLD})
        SELECT lower(hex(randomblob(16))), 'old', 'old ' || n, '2025-01-01T00:00:00.000Z' FROM n;
        DELETE FROM topics WHERE topic = 'old';
        INSERT INTO topics
        SELECT topic, count(*), sum(length(CAST(body AS BLOB))), min(received_at), max(received_at)
        FROM messages WHERE topic = 'old';
        COMMIT;
    """)
    link.close()


def sweep(path):
    """Delete as the janitor does: where the writer is held for too long, try again."""

    def rest(seconds):
        time.sleep(seconds)
        return False

    for _ in range(10):
        with contextlib.suppress(StoreError):
            Sweeper(file_database(path), parse_rules(f"old: rows={KEPT}"), rest).sweep()
            return


def test_during_a_migration(bench, share, examine):
    """From the first schema, with messages in the database and others in the queue.

    `appliance verify` is not asked: what came before it began to keep numbers is missing to it.
    """
    one, cuts = bench(), []
    stack = one.start()
    count = share(0.1)
    with Load(stack, "migration", senders=8, styles=MIXED, rate=300) as load:
        load.wait_accepted(300)
        stack.workers[0].kill()
        load.wait_accepted(100)
    for process in stack.processes:
        process.kill()
    while len(cuts) < count:
        to_first_schema(stack.database)
        cuts += one.cut_during(lambda: migrations.migrate(stack.database), 3, load, pause=0.001)
    outcomes = kept(examine(one, cuts[:count], verify=False))
    assert all(outcome.from_queue for outcome in outcomes)


def to_first_schema(path):
    """Put the messages of a database into one that has the first schema."""
    old = path.with_name("old.db")
    migrations.migrate(path)  # folds the WAL into the file
    path.rename(old)
    migrations._create(path)
    link = sqlite3.connect(path, isolation_level=None)
    steps = migrations._migrations._registry()
    steps.apply(
        sqlite_utils.Database(link, execute_plugins=False),
        stop_before=steps.pending(sqlite_utils.Database(memory=True))[1].name,
    )
    link.execute("PRAGMA user_version = 1")
    link.execute("ATTACH ? AS old", (str(old),))
    for table in ("messages", "topics", "dead_letters"):
        names = ", ".join(row[1] for row in link.execute(f"PRAGMA main.table_info({table})"))
        link.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM old.{table}")
    link.close()
    old.unlink()
