"""Upgrade: a data folder that an earlier version made and filled comes up with today's program.

The earlier version really ran: its code, out of git, has stored rows and dead letters, and has
left a queue of all kinds of envelopes that no worker has stored.
"""

import concurrent.futures
import json
from collections import Counter
from types import SimpleNamespace

import pika
import previous
import pytest
from harness import Process, wait_until
from load import amqp, depth, wait_drained

from appliance.broker import base
from appliance.broker.node import synced
from appliance.model.ids import IdSource
from appliance.model.wire import Kind
from appliance.store.sqlite import index_check

pytestmark = pytest.mark.slow

#: (topic, body, parameters, headers): what the previous version could be sent over HTTP. A value
#: that ends in - goes on.
REQUESTS = (
    ("notes", b"a word", {}, {}),
    ("notes", "gr\u00fc\u00dfe \u4e16\u754c".encode(), {}, {"Content-Type": "text/plain"}),
    ("notes", b"\x00\xff bytes", {}, {"Content-Type": "application/octet-stream"}),
    ("events", b'{"n":1}\n{"n":2}\n', {}, {"Content-Type": "application/x-ndjson"}),
    ("logs", b"first\nsecond \xe4\nthird\n", {"split": "lines"}, {}),
    ("logs", b"fourth\nfifth\n", {"split": "lines"}, {}),
    ("github", b'{"ref":"main"}', {}, {"X-GitHub-Delivery": "d-", "X-GitHub-Event": "push"}),
    ("keyed", b"once", {}, {"Idempotency-Key": "key-"}),
)
#: What died at the previous version's worker, by the routing key of an AMQP client.
FOREIGN_TOPIC = "Home/Kitchen"


def send(stack, journal, suffix):
    """Send each request once; note the id of each message with its topic and body."""
    for topic, body, parameters, headers in REQUESTS:
        named = {k: v + suffix if v.endswith("-") else v for k, v in headers.items()}
        answer = stack.client.post(
            f"/v1/topics/{topic}/messages", content=body, params=parameters, headers=named
        )
        assert answer.status_code == 202, answer.text
        told = answer.json()
        is_batch = parameters or headers.get("Content-Type") == "application/x-ndjson"
        bodies = body.split(b"\n")[:-1] if is_batch else [body]
        for message_id, one in zip(told.get("ids", [told.get("id")]), bodies, strict=True):
            journal.append((topic, message_id, one))


def send_at_once(stack, journal, count=60):
    """Send requests that share envelopes, because they wait at the same time."""

    def post(number):
        topic, body = f"shared-{number % 3}", b"%d" % number
        return topic, stack.publish(topic, body).json()["id"], body

    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        journal += threads.map(post, range(count))


def publish_foreign(stack, topic, *bodies, **properties):
    with amqp(stack) as link:
        channel = link.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(
                base.EXCHANGE, topic, body, pika.BasicProperties(**properties), mandatory=True
            )


def kinds_waiting(stack):
    """Return the AMQP types of what waits in the queue, which stays as it is."""
    with amqp(stack) as link:
        channel = link.channel()
        channel.basic_qos(prefetch_count=1000)
        found = Counter()
        for method, properties, _ in channel.consume(base.QUEUE, inactivity_timeout=1):
            if method is None:
                return found
            found[properties.type] += 1
    raise AssertionError("a consumer that ends")


@pytest.fixture(scope="module", params=previous.VERSIONS, ids=lambda version: version.commit[:7])
def upgraded(request, module_stack, tmp_path_factory):
    """The data folder of a previous version, with today's program running on it."""
    version = request.param
    made = module_stack(start=False)
    code = tmp_path_factory.mktemp("previous") / "code"
    previous.run_by(made, previous.take_out(version, code))
    made.start()
    assert made.query("PRAGMA user_version")[0][0] == version.schema
    stored, waiting = [], []
    # rows and dead letters
    send(made, stored, "stored")
    send_at_once(made, stored)
    publish_foreign(made, "foreign", b"by amqp", message_id="amqp-1")
    publish_foreign(made, FOREIGN_TOPIC, b"21.5", b"21.6", content_type="text/plain")
    publish_foreign(made, "foreign", b"of the same key", message_id="amqp-1")
    wait_drained(made)
    letters = made.query("SELECT * FROM dead_letters ORDER BY seq")
    assert [row["reason"] for row in letters] == ["bad-topic", "bad-topic", "conflict"]
    backup = json.loads(made.cli("backup", "--json").stdout)["path"]

    # a queue that nobody empties
    for worker in made.workers:
        worker.stop()
    send(made, waiting, "waiting")
    send_at_once(made, waiting)
    redriven = made.client.post(f"/v1/dead-letters/{letters[0]['seq']}/redrive?topic=kitchen")
    assert redriven.status_code == 202, redriven.text
    publish_foreign(made, "foreign", b"of another program", content_type="text/x-special")
    publish_foreign(made, FOREIGN_TOPIC, b"21.7")
    kinds = kinds_waiting(made)
    assert {*kinds} >= {Kind.MESSAGE, Kind.PACK, Kind.LINES, None}, kinds
    rows = made.count()
    assert rows == len(stored) + 1
    made.api.stop()  # its last ledger entry waits in the queue too
    assert depth(made) >= kinds.total()
    made.broker.process.stop()

    previous.run_by(made, None)
    made.broker.start()
    migrated = made.cli("migrate")
    assert migrated.returncode == 0, migrated.stderr
    assert b"m%03d" % (version.schema + 1) in migrated.stdout + migrated.stderr
    made.start()
    wait_drained(made)
    return SimpleNamespace(
        stack=made, stored=stored, waiting=waiting, rows=rows, backup=backup, version=version
    )


def test_upgrade_loses_no_row_and_no_message_of_the_queue_and_doubles_none(upgraded):
    stack = upgraded.stack
    sent = Counter((topic, each, body) for topic, each, body in upgraded.stored + upgraded.waiting)
    rows = stack.query("SELECT topic, id, body FROM messages ORDER BY seq")
    as_bytes = [(t, i, b.encode() if isinstance(b, str) else b) for t, i, b in rows]
    foreign = [(t, b) for t, i, b in as_bytes if t in ("foreign", "kitchen")]
    assert Counter(row for row in as_bytes if row[0] not in ("foreign", "kitchen")) == sent
    assert sorted(foreign) == [
        ("foreign", b"by amqp"), ("foreign", b"of another program"), ("kitchen", b"21.5"),
    ]  # fmt: skip


def test_upgrade_keeps_the_order_of_each_topic(upgraded):
    for topic in ("notes", "events", "logs", "github", "keyed"):
        ids = [each for at, each, _ in upgraded.stored + upgraded.waiting if at == topic]
        assert [row["id"] for row in upgraded.stack.rows(topic)] == ids


def test_messages_of_the_previous_version_are_searched_without_the_index_and_with_it(upgraded):
    stack = upgraded.stack

    def found():
        answer = stack.get("/v1/messages", params={"q": "GRÜẞE"})
        return [row["id"] for row in answer.json()["messages"]]

    sent = upgraded.stored + upgraded.waiting
    ids = [each for _, each, body in sent if body.startswith("grüße".encode())]
    assert sorted(found()) == sorted(ids)
    janitor = Process("janitor", stack.env, stack.data.parent)
    janitor.start()
    try:
        wait_until(
            lambda: index_check.look(stack.database).text.endswith("complete"),
            "the index is complete",
            60,
            lambda: janitor.log,
        )
        assert sorted(found()) == sorted(ids)
    finally:
        janitor.kill()


def test_messages_of_the_previous_version_have_the_meta_that_it_kept(upgraded):
    stack, kept = upgraded.stack, upgraded.version.has_meta
    for topic in ("notes", "logs", "events", "github", "shared-1"):
        for row in stack.rows(topic):
            assert kept or (row["content_type"], row["meta"]) == (None, None)
        page = stack.get(f"/v1/topics/{topic}/messages").json()["messages"]
        lines = stack.get(f"/v1/topics/{topic}/messages", params={"format": "ndjson"}).text
        for shown in (*page, *map(json.loads, lines.splitlines())):
            assert kept or (shown["content_type"], shown["meta"]) == (None, None)
            if kept and topic == "notes":
                types = {"a word": None, "gr\u00fc\u00dfe \u4e16\u754c": "text/plain"}
                wanted = types.get(shown["body"], "application/octet-stream")
                assert shown["content_type"] == wanted
            if kept and topic == "github":
                assert shown["meta"]["headers"]["x-github-event"] == "push"
    (text,) = stack.get("/v1/topics/keyed/messages?limit=1").json()["messages"]
    body = stack.get(f"/v1/messages/{text['id']}/body")
    assert (body.content, body.headers["content-type"]) == (b"once", "text/plain; charset=utf-8")


def test_another_programs_message_in_the_old_queue_keeps_what_came_with_it(upgraded):
    row = upgraded.stack.rows("foreign")[-1]
    assert (row["body"], row["content_type"]) == ("of another program", "text/x-special")
    assert json.loads(row["meta"])["via"] == "amqp"


def test_dead_letters_of_the_previous_version_are_there_and_can_be_sent_again(upgraded):
    stack = upgraded.stack
    letters = stack.get("/v1/dead-letters").json()["dead_letters"]
    # One was sent again before the upgrade; one died after it, of the queue.
    assert sorted((each["reason"], each["body"]) for each in letters) == [
        ("bad-topic", "21.6"), ("bad-topic", "21.7"), ("conflict", "of the same key"),
    ]  # fmt: skip
    (old,) = (each for each in letters if each["body"] == "21.6")
    expected = ("text/plain", "amqp") if upgraded.version.has_meta else (None, None)
    assert (old["content_type"], (old["meta"] or {}).get("via")) == expected
    answer = stack.client.post(f"/v1/dead-letters/{old['seq']}/redrive?topic=kitchen-2")
    assert answer.status_code == 202, answer.text
    (row,) = stack.wait_rows(1, "kitchen-2")
    assert row["body"] == "21.6"
    left = stack.get("/v1/dead-letters").json()["dead_letters"]
    assert old["seq"] not in [each["seq"] for each in left]


def test_a_key_that_the_previous_version_took_is_still_known(upgraded):
    stack = upgraded.stack
    first = {each for topic, each, _ in upgraded.stored + upgraded.waiting if topic == "keyed"}
    again = {
        stack.publish("keyed", b"once", Idempotency_Key=key).json()["id"]
        for key in ("key-stored", "key-waiting")
    }
    assert again == first
    assert stack.publish("keyed", b"twice", Idempotency_Key="key-stored").status_code == 422
    wait_drained(stack)
    assert stack.count("keyed") == len(first)


def test_verify_and_doctor_find_nothing_wrong_after_an_upgrade(upgraded):
    stack = upgraded.stack
    wait_until(lambda: stack.cli("verify").returncode == 0, "all is well", 20, stack.logs)
    done = stack.cli("verify", "--json")
    assert done.returncode == 0, done.stdout
    done = stack.cli("doctor")
    assert done.returncode == 0, done.stdout


def test_new_messages_have_their_request_beside_them_after_an_upgrade(upgraded):
    stack = upgraded.stack
    sent = stack.publish("events", b"{}", Content_Type="application/json", X_GitHub_Event="ping")
    wait_drained(stack)
    shown = stack.get(f"/v1/messages/{sent.json()['id']}").json()
    assert shown["content_type"] == "application/json"
    assert shown["meta"]["headers"]["x-github-event"] == "ping"


def test_envelopes_that_name_no_user_count_until_the_queue_has_none_of_them_left(upgraded):
    stack = upgraded.stack
    mark = stack.data / "broker" / synced.SIGNED
    assert not mark.exists()
    for worker in stack.workers:
        worker.stop()
        worker.start()
    assert stack.publish("signed", b"x", Prefer="wait=60").status_code == 201
    assert mark.exists()
    headers = {"received_at": "2026-01-02T03:04:05.678Z", "count": 1, "bytes": 1}
    publish_foreign(
        stack, "unsigned", b"x", type="appliance.message", message_id=IdSource().new(),
        headers=headers,
    )  # fmt: skip
    letters = "SELECT seq FROM dead_letters WHERE reason = 'foreign-envelope'"
    ((seq,),) = wait_until(lambda: stack.query(letters), "a letter", 30, stack.logs)
    assert stack.client.delete(f"/v1/dead-letters/{seq}").status_code == 204


def test_backup_of_the_previous_version_is_restored_by_this_one(upgraded):
    # The last of this file: it puts back what was there before the queue was filled.
    stack = upgraded.stack
    for process in (stack.api, *stack.workers):
        process.stop()
    done = stack.cli("restore", upgraded.backup, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    stack.start()
    kept = {row["id"] for row in stack.rows()}
    assert kept >= {each for _, each, _ in upgraded.stored}
    assert not kept & {each for _, each, _ in upgraded.waiting}
    assert len(stack.get("/v1/dead-letters").json()["dead_letters"]) == 3
    (first,) = stack.get("/v1/topics/github/messages").json()["messages"]
    assert (first["meta"] is not None) == upgraded.version.has_meta
