"""A running appliance moves from SQLite to PostgreSQL and back, as a client sees it."""

import json

import pytest
from harness import START_SECONDS, Stack, wait_until
from load import Load, depth
from postgres import PostgresServer
from postgres_stack import PostgresStack


@pytest.fixture(scope="module")
def server():
    server = PostgresServer(synced=True)
    yield server
    server.remove()


@pytest.fixture
def start(tmp_path, idle_brokers):
    """Start API and workers on the one data folder, in place of those that ran on it before."""
    made = []

    def start(kind, **settings):
        if made:
            for process in (made[-1].api, *made[-1].workers):
                process.stop()
            settings["http"] = made[-1].url.removeprefix("http://")
            broker = made[-1].broker
        else:
            broker = idle_brokers.pop() if idle_brokers else None
        made.append(kind(tmp_path, 2, {"min_free_bytes": "0", **settings}, broker))
        return made[-1].start()

    yield start
    for stack in made:
        stack.close_but_broker()
    if made[-1].broker.clear():
        idle_brokers.append(made[-1].broker)
    else:
        made[-1].broker.process.kill()


def exported(stack, *to):
    done = stack.cli("export", *to, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def wait_queued(load, stack):
    """Wait until messages are answered 202 and none of them becomes a row."""
    load.wait_accepted(50)
    wait_until(lambda: depth(stack), "messages wait in the queue", 60, stack.logs)


def test_each_message_answered_202_is_one_row_on_the_way_to_postgresql_and_back(
    server, start, tmp_path
):
    url = server.new_database()
    file = tmp_path / "database-url"
    file.write_text(f"{url}\n")
    stack = start(Stack)
    stack.client.post("/v1/tokens", json={"name": "reader", "rights": ["read"]})
    with Load(stack, "moved") as load:
        load.wait_accepted(300)
        report = exported(stack, "--to-file", str(file))
        assert {"messages", "tokens"} <= {each["name"] for each in report["tables"] if each["rows"]}
        wait_queued(load, stack)
        rows = stack.count()
        wait_until(
            lambda: any("were moved to postgresql:" in each.log for each in stack.workers),
            "a worker says where the messages are",
        )
        wait_until(lambda: stack.get("/readyz").status_code == 503, "no longer ready")
        late = stack.client.post("/v1/tokens", json={"name": "late", "rights": ["read"]})
        assert late.status_code == 503
        assert "were moved to" in stack.cli("migrate").stderr.decode()
        assert stack.count() == rows

        load.stack = stack = start(PostgresStack, database_url=url)
        load.wait_accepted(100)
        wait_until(lambda: stack.count() > rows, "the queue is stored", 60, stack.logs)
        names = [each["name"] for each in stack.client.get("/v1/tokens").json()["tokens"]]
        assert "reader" in names

        exported(stack, "--to", "sqlite:")
        wait_queued(load, stack)
        load.stack = start(Stack)
        load.wait_accepted(100)
    load.verify(START_SECONDS)
    assert b"all is well" in load.stack.cli("verify").stdout
