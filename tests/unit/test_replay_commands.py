"""`appliance replay` against the real application, served over HTTP."""

import json
import threading

import pytest
from click.testing import CliRunner
from delivery_rows import URL
from flask_app import app_of
from store_contents import many
from werkzeug.serving import make_server

from appliance import config as configuration
from appliance.cli.commands.endpoint import endpoint
from appliance.cli.commands.replay import replay
from appliance.cli.text import replay_text
from appliance.replay_copier import copies
from appliance.store import open_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def store(folder):
    """A store of ten messages, served without a worker: what runs stays running."""
    config = configuration.load({"APPLIANCE_DATA": str(folder), "APPLIANCE_MIN_FREE_BYTES": "0"})
    store = open_store(config)
    store.migrate()
    writer = store.open_writer()
    writer.store([many([b'{"n":%d}' % n for n in range(10)], "orders")])
    server = make_server("127.0.0.1", 0, app_of(config), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    store.url, store.writer = f"http://127.0.0.1:{server.server_port}", writer
    yield store
    server.shutdown()
    thread.join()
    server.server_close()
    writer.close()
    store.reader.close()


@pytest.fixture
def run(store, folder):
    """Run a command; return what it prints to standard output, and to standard error."""
    settings = {"APPLIANCE_URL": store.url, "APPLIANCE_DATA": str(folder), "APPLIANCE_TOKEN": "t"}
    config = configuration.load(settings, client=True)

    def run(*words, error=None, command=replay, **options):
        done = CliRunner().invoke(command, words, obj=config, **options)
        if error is None:
            assert done.exit_code == 0, (done.output, done.exception)
        else:
            assert done.exit_code != 0
            assert error in f"{done.output}{done.exception}"
        return done.stdout.strip(), done.stderr

    return run


def copy_all(store):
    while work := store.replays.next_copy():
        store.writer.store([copies(work, store.replays.part(work, work.cursor, 4, 2**20))])


def test_a_dry_run_says_how_many_messages_go_where(run):
    assert run("create", "--into", "a", "--dry-run") == ("10 messages to the topic a", "")
    one = ("--topic", "orders", "--where", "n>=3", "--first-seq", "5", "--last-seq", "5")
    assert run("create", "--into", "a", *one, "--dry-run")[0] == "1 message to the topic a"
    found = json.loads(run("create", "--into", "a", "--since", "1d", "--dry-run", "--json")[0])
    assert found["messages"] == 0
    words = run("create", "--into", "a", "--search", "n", "--kind", "json", "--dry-run")[0]
    assert words == "10 messages to the topic a"


def test_a_replay_is_confirmed_or_given_yes(run):
    run("create", "--into", "a", error="would send 10 messages to the topic a; give --yes")
    run("create", "--into", "a", "--sql", "SELECT 99", "--yes", error="no stored message is")
    run("create", error="give --endpoint or --into")
    run("create", "--into", "a", "--endpoint", "b", error="give --endpoint or --into")
    run("create", "--into", "A", error="try 'a'")


def test_a_query_comes_from_an_option_from_a_file_or_from_standard_input(run, tmp_path):
    query = "SELECT seq FROM messages WHERE seq < 4"
    file = tmp_path / "q.sql"
    file.write_text(query)
    for words in (("--sql", query), ("--sql-file", str(file)), ("--sql-file", "-")):
        out, _ = run("create", "--into", "a", *words, "--dry-run", input=query)
        assert out == "3 messages to the topic a"
    run("create", "--into", "a", "--sql", query, "--sql-file", str(file), error="not both")
    run("create", "--into", "a", "--sql", "DROP TABLE messages", error="begins with SELECT")
    file.write_bytes(b"SELECT '\xff'")
    run("create", "--into", "a", "--sql-file", str(file), error="expected text in UTF-8")


def test_a_replay_is_listed_shown_stopped_resumed_and_followed_to_its_end(run, store):
    name, words = run("create", "--into", "copies", "--yes")
    assert words == ""
    assert "resume" in run("stop", name)[1]
    assert "stopped  0%" in run("list")[0]
    assert "state        stopped" in run("show", name)[0]
    assert "running: 0 messages sent to the topic copies" in run("resume", name)[1]
    copy_all(store)
    assert "done: 10 messages sent to the topic copies" in run("show", name, "--follow")[1]
    assert json.loads(run("show", name, "--json")[0])["progress"] == 1.0
    run("resume", name, error="make another")
    run("show", "nothing", error="there is no replay nothing")
    assert name in json.dumps(json.loads(run("list", "--json")[0]))


def test_following_a_replay_that_failed_ends_with_an_error(run):
    run("create", "shop", URL, command=endpoint)
    name, _ = run("create", "--endpoint", "shop", "--yes")
    run("remove", "shop", command=endpoint)
    _, words = run("show", name, "--follow", error="the endpoint was removed")
    assert words.startswith("failed: ")


def test_messages_that_wait_or_were_given_up_are_told_with_the_next_step():
    words = replay_text.outcome(
        {
            "id": "an-id", "state": "stopped", "sent": 1, "endpoint": "shop", "into": None,
            "reason": None, "waiting": 2, "given_up": 1, "gone": 3,
        }
    )  # fmt: skip
    assert words == (
        "stopped: 1 message sent to the endpoint shop; 2 messages waiting for another attempt, 1 "
        "given up: `appliance endpoint undelivered shop` lists them; 3 messages deleted before "
        "their turn; `appliance replay resume an-id` goes on"
    )
