"""The appliance with its messages in PostgreSQL: the promise holds whatever dies."""

import contextlib
import shutil
import subprocess
from pathlib import Path

import previous
import psycopg
import pytest
from harness import START_SECONDS, wait_until
from load import Load
from postgres import PostgresServer, programs
from postgres_copy import PostgresCopy
from postgres_stack import PostgresStack


@pytest.fixture(scope="module")
def server():
    server = PostgresServer(synced=True)
    yield server
    server.remove()


@pytest.fixture
def run(tmp_path, idle_brokers):
    """Run the appliance on the database at a URL."""
    made = []

    def run(url, code=None):
        broker = idle_brokers.pop() if idle_brokers else None
        made.append(PostgresStack(tmp_path, 2, {"database_url": url}, broker))
        previous.run_by(made[-1], code)
        return made[-1].start()

    yield run
    for stack in made:
        stack.close_but_broker()
        if stack.broker.clear():
            idle_brokers.append(stack.broker)
        else:
            stack.broker.process.kill()


def publish(stack, body, **headers):
    answer = stack.client.post("/v1/topics/orders/messages", content=body, headers=headers)
    assert answer.status_code in (201, 202), answer.text
    return answer.json()["id"]


def test_a_message_answered_202_is_a_row_that_psql_shows(server, run):
    url = server.new_database()
    stack = run(url)
    first = publish(stack, b"hello")
    last = publish(stack, b"\xff\x00", Prefer="wait=30")

    psql = [str(programs() / "psql"), url, "-XAtc"]
    query = "SELECT id, body, body_bytes FROM messages WHERE topic = 'orders' ORDER BY seq"
    shown = subprocess.run([*psql, query], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [f"{first}|hello|", rf"{last}||\xff00"]

    listed = stack.client.get("/v1/topics/orders/messages").json()["messages"]
    assert [each["id"] for each in listed] == [last, first]
    assert "postgresql" in stack.client.get("/v1/status").json()
    assert stack.client.get("/v1/backup").status_code == 501
    assert not (stack.data / "appliance.db").exists()
    for command in ("status", "verify"):
        done = stack.cli(command)
        assert done.returncode == 0, done.stderr
    assert b"PostgreSQL" in stack.cli("status").stdout
    assert b"all is well" in stack.cli("verify").stdout


def test_no_message_is_lost_or_doubled_when_worker_and_server_are_killed(server, run):
    stack = run(server.new_database())
    with Load(stack, "killed") as load:
        load.wait_accepted(100)
        stack.workers[0].kill()
        load.wait_accepted(100)
        server.stop("immediate")  # as kill -9 of every process of it, and a start after it
        load.wait_accepted(100)  # the queue takes them
        server.start()
        stack.workers[0].start()
        load.wait_accepted(100)
    load.verify(START_SECONDS)


def test_nothing_acknowledged_is_lost_where_a_standby_is_promoted_and_the_primary_comes_back(run):
    primary = PostgresServer(synced=True)
    standby = PostgresCopy(primary)
    try:
        url = primary.new_database()
        with psycopg.connect(url, autocommit=True) as link:
            link.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            link.execute("SELECT pg_reload_conf()")
            wait_until(
                lambda: link.execute(
                    "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                ).fetchone(),
                "the standby is synchronous",
            )
        both = url.replace(str(primary.folder), f"{primary.folder},{standby.folder}")
        stack = run(f"{both}&target_session_attrs=read-write")
        shown = stack.client.get("/v1/status").json()["store"]
        assert (shown["read_from"], shown["synchronous_copies"]) == ("primary", 1)
        with Load(stack, "moved") as load:
            load.wait_accepted(200)
            primary.stop("immediate")
            load.wait_accepted(50)
            with psycopg.connect(standby.url("postgres"), autocommit=True) as link:
                link.execute("SELECT pg_promote()")
            load.wait_accepted(100)
            stack.asked = standby.url_of(url)
            stored = load.stored()
            wait_until(lambda: load.stored() > stored, "the new primary stores", START_SECONDS)
            primary.start()  # it takes writes, and is the first in the URL
            stack.workers[0].kill()
            load.wait_accepted(100)
            stack.workers[1].kill()
            stack.workers[0].start()
            load.wait_accepted(100)
        load.verify(START_SECONDS)
        told = stack.cli("doctor").stdout.decode()
        assert f"{primary.folder} takes writes too, and is an old primary" in " ".join(told.split())
    finally:
        standby.remove()
        with contextlib.suppress(AssertionError):
            primary.start()
        primary.remove()


def program_before(folder):
    """Lay out this program as it was before its last change of the schema."""
    shutil.copytree(previous.ROOT / "appliance", folder / "appliance")
    files = sorted(Path(folder, "appliance/store/postgresql/schema").glob("*.sql"))
    files[-1].unlink()
    return folder, files[-1].name


def test_programs_of_two_versions_store_side_by_side_while_one_takes_the_others_place(
    server, run, tmp_path
):
    code, change = program_before(tmp_path / "before")
    assert change.endswith(".compatible.sql"), "this test needs a change that both can live with"
    url = server.new_database()
    stack = run(url, code)
    query = "SELECT 1 FROM schema_changes WHERE name = ?"
    assert not stack.query(query, change)
    with Load(stack, "side") as load:
        load.wait_accepted(100)
        previous.run_by(stack, None)  # what starts from now on is the new program
        stack.cli("migrate").check_returncode()
        assert stack.query(query, change)
        stack.workers[0].kill()  # the older program's other worker opens the newer database
        load.wait_accepted(100)
        assert stack.client.get("/readyz").json()["checks"]["store_readable"]
        stack.workers[0].start()
        stack.workers[1].stop()
        stack.workers[1].start()
        load.wait_accepted(100)
    load.verify(START_SECONDS)
    stack.api.stop()
    stack.api.start()
    stack.wait_ready()
