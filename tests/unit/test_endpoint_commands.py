"""`appliance endpoint` against the real application, served over HTTP."""

import json
import threading

import pytest
from click.testing import CliRunner
from delivery_rows import SECRET, URL, attempt, due
from flask_app import app_of
from werkzeug.serving import make_server

from appliance import config as configuration
from appliance.cli.commands.endpoint import endpoint
from appliance.cli.text import endpoint_text
from appliance.cli.text.words import printable
from appliance.store import open_store
from appliance.store.endpoint_rows import DeliveryOutcome, EndpointStanding


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def store(folder):
    config = configuration.load({"APPLIANCE_DATA": str(folder), "APPLIANCE_MIN_FREE_BYTES": "0"})
    store = open_store(config)
    store.migrate()
    server = make_server("127.0.0.1", 0, app_of(config), threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    yield store
    server.shutdown()
    thread.join()
    server.server_close()
    store.reader.close()


@pytest.fixture
def run(store, folder):
    """Run a command; return what it prints to standard output, and to standard error."""
    settings = {"APPLIANCE_URL": store.url, "APPLIANCE_DATA": str(folder), "APPLIANCE_TOKEN": "t"}
    config = configuration.load(settings, client=True)

    def run(*words, error=None, **options):
        done = CliRunner().invoke(endpoint, words, obj=config, **options)
        if error is None:
            assert done.exit_code == 0, (done.output, done.exception)
        else:
            assert done.exit_code != 0
            assert error in f"{done.output}{done.exception}"
        return done.stdout.strip(), done.stderr

    yield run
    for each in store.endpoints.all():
        run("remove", each.name)


def test_the_secret_of_an_endpoint_is_printed_alone_so_that_a_script_can_keep_it(run):
    secret, words = run("create", "erp", URL, "--topic", "orders.*", "--topic", "returns")
    assert secret.startswith("whsec_")
    assert "new messages of orders.*, returns go to https://9.9.9.9/hooks" in words
    assert "shown only now" in words
    assert secret not in "".join(run("show", "erp") + run("list"))


def test_an_endpoint_is_made_with_all_that_options_say_and_secrets_come_from_files(
    run, tmp_path, store
):
    header, secret = tmp_path / "header", tmp_path / "secret"
    header.write_text("Bearer abc\n")
    secret.write_text(f"{SECRET}\n")
    printed, words = run(
        "create", "erp", URL, "--where", "total>=100", "--ordered", "--concurrency", "1",
        "--rate", "5/s", "--timeout", "3", "--lifetime", "12h", "--pass-header", "X-Kind",
        "--header-file", f"Authorization={header}", "--secret-file", str(secret),
        "--from", "beginning",
    )  # fmt: skip
    assert (printed, SECRET in words) == ("", False)
    (outfit,) = store.deliveries.outfits()
    assert (outfit.secrets, outfit.headers) == ((SECRET,), (("authorization", "Bearer abc"),))
    text, _ = run("show", "erp")
    for line in (
        "where        total>=100", "setting      ordered = yes", "setting      concurrency = 1",
        "setting      lifetime = 12 h", "setting      headers = x-kind",
        "own header   authorization (its value is not shown)",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "Bearer abc" not in text


def test_a_secret_and_a_header_can_come_from_standard_input(run, store):
    run("create", "a", URL, "--secret-file", "-", input=SECRET)
    run("create", "b", URL, "--header-file", "X-A=-", input="b\n")
    by_name = {each.row.name: each for each in store.deliveries.outfits()}
    assert by_name["a"].secrets == (SECRET,)
    assert by_name["b"].headers == (("x-a", "b"),)


def test_wrong_wishes_are_refused_in_words(run):
    run("create", "a/b", URL, error="name:")
    run("create", "a", "http://10.0.0.1/", error="APPLIANCE_DELIVER_ALLOW")
    run("create", "a", URL, "--rate", "fast", error="settings.rate")
    run("create", "a", URL, "--header-file", "X-A", error="NAME=FILE")
    run("create", "a", URL, "--header-file", "X-A=/no/such/file", error="--header-file")
    run("create", "a", URL, "--from", "yesterday", error="from:")
    for words in (
        ["show", "a"], ["pause", "a"], ["resume", "a"], ["remove", "a"], ["deliveries", "a"],
        ["undelivered", "a"], ["redrive", "a", "--all"], ["rotate-secret", "a"],
        ["change", "a", "--rate", "1/s"],
    ):  # fmt: skip
        run(*words, error="there is no endpoint a")
    for words in (["redrive", "a"], ["redrive", "a", "1", "--all"], ["discard", "a"]):
        run(*words, error="ids")
    run("discard", "a", "--all", error="--yes")
    run("change", "a", error="what is to be changed")


def test_an_endpoint_is_changed_and_settings_get_their_default_back(run):
    run("create", "erp", URL, "--rate", "5/s", "--where", "a exists", "--topic", "orders")
    text, _ = run("change", "erp", "--url", "https://9.9.9.9/v2", "--timeout", "4")
    assert "url          https://9.9.9.9/v2" in text
    assert "setting      rate = 5/s" in text
    shown, _ = run(
        "change", "erp", "--unset", "rate", "--unset", "where", "--unset", "topics",
        "--unset", "own-headers", "--json",
    )  # fmt: skip
    found = json.loads(shown)
    assert (found["settings"]["rate"], found["where"], found["topics"]) == (None, [], ["*"])
    assert found["settings"]["timeout"] == 4


def test_an_endpoint_is_listed_paused_resumed_and_removed(run):
    assert "create NAME URL" in run("list")[1]
    run("create", "erp", URL)
    run("create", "web", URL)
    run("pause", "erp", "--reason", "it moves")
    lines = run("list")[0].splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "STATE"], ["erp", "paused"], ["web", "active"],
    ]  # fmt: skip
    assert "state        paused: it moves" in run("show", "erp")[0]
    run("resume", "erp")
    assert json.loads(run("show", "erp", "--json")[0])["state"] == "active"
    run("remove", "erp", "--yes")
    assert [e["name"] for e in json.loads(run("list", "--json")[0])["endpoints"]] == ["web"]


def test_a_secret_is_rotated_and_the_old_one_ends_when_told(run, store):
    first, _ = run("create", "erp", URL)
    second, words = run("rotate-secret", "erp")
    assert "signs too until" in words
    assert store.deliveries.outfits()[0].secrets == (second, first)
    made = json.loads(run("rotate-secret", "erp", "--old-for", "0s", "--json")[0])
    assert made["secret"].startswith("whsec_")


def test_attempts_and_undelivered_messages_are_listed_redriven_and_discarded(run, store):
    run("create", "erp", URL)
    number = store.deliveries.outfits()[0].row.id
    bad = attempt(number, 1, "answered 500", status=500, answer="<b>no</b>\n at all")
    rows = [due(number, state, seq) for seq, state in enumerate(["given-up"] * 3 + ["waiting"], 1)]
    standing = EndpointStanding(
        cursor=0, failures=5, broken_at=1e9, retry_at=2e9, trouble="answered 500", given_up=3
    )
    store.deliveries.store(
        DeliveryOutcome(attempts=[bad, attempt(number, 2)], due=rows, standings={number: standing})
    )
    text, words = run("deliveries", "erp")
    assert "<b>no</b> at all" in text
    assert "2 attempts" in words
    failed = run("deliveries", "erp", "--failed", "--json")[0].splitlines()
    assert [json.loads(line)["status"] for line in failed] == [500]
    assert len(run("deliveries", "erp", "-n", "1", "--json")[0].splitlines()) == 1
    state = run("show", "erp")[0]
    assert "open since 2001-09-09T01:46:40.000Z, 5 failures" in state
    assert "given up     3 messages" in state
    assert "failing" in run("list")[0]

    listed = run("undelivered", "erp", "--state", "given-up", "--json")[0].splitlines()
    ids = [json.loads(line)["id"] for line in listed]
    assert "3 messages" in run("undelivered", "erp", "--state", "given-up")[1]
    assert "1 message tried again" in run("redrive", "erp", str(ids[0]))[1]
    assert json.loads(run("redrive", "erp", str(ids[1]), "--json")[0])["redriven"] == 1
    assert "1 message tried again" in run("redrive", "erp", "--all")[1]
    assert "1 message discarded" in run("discard", "erp", str(ids[0]))[1]
    assert "0 messages discarded" in run("discard", "erp", "--all", "--yes")[1]


def test_an_answer_of_a_stranger_can_not_steer_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    hostile = "\x1b]0;owned\x07\x9b31m"
    row = {
        "at": "x", "attempt": 1, "status": None, "took_ms": 1, "message_id": "m",
        "error": hostile, "answer": hostile, "id": 1, "state": "waiting", "attempts": 1,
        "due_at": None,
    }  # fmt: skip
    monkeypatch.setenv("NO_COLOR", "1")
    for text in (
        endpoint_text.attempt(row, head=True), endpoint_text.undelivered(row, head=True),
    ):  # fmt: skip
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert printable(hostile) in text
