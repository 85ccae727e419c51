"""Dead letters over HTTP and by the command line: seen, sent again, discarded."""

import csv
import io
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys

import httpx
import pika
import pytest
from harness import APPLIANCE, START_SECONDS, wait_until
from load import amqp, wait_accepting, wait_drained

from appliance.broker import base

#: An API that ends as if killed, after the broker has a redriven message and before its letter is
#: removed.
PUBLISHES_AND_DIES = """
import os, signal
from appliance.cli import main
from appliance.store.sql.dead_letters import StoredDeadLetters
StoredDeadLetters.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


@pytest.fixture(scope="module")
def appliance(module_stack):
    return module_stack(max_message_bytes=1000)


def publish_foreign(stack, topic, *bodies, **properties):
    with amqp(stack) as link:
        channel = link.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(
                base.EXCHANGE, topic, body, pika.BasicProperties(**properties), mandatory=True
            )


def letters(stack, **choice):
    choice = {"limit": 1000, **choice}
    return stack.get("/v1/dead-letters", params=choice).json()["dead_letters"]


def die(stack, topic, body, count=1, **properties):
    """Let a message die; return its letter."""
    publish_foreign(stack, topic, body, **properties)
    wait_until(lambda: len(letters(stack, topic=topic)) >= count, "a dead letter", 30, stack.logs)
    return letters(stack, topic=topic)[0]


def conflict(stack, topic, key, *bodies):
    """Let each body but the first die of a conflict; return the letters, newest first."""
    publish_foreign(stack, topic, *bodies, message_id=key)
    died = len(bodies) - 1
    wait_until(lambda: len(letters(stack, topic=topic)) == died, "they died", 30, stack.logs)
    return letters(stack, topic=topic)


def redrive(stack, letter, **parameters):
    path = f"/v1/dead-letters/{letter['seq']}/redrive"
    return stack.client.post(path, params=parameters)


# --- seeing them


def test_a_letter_shows_what_died_and_why(appliance):
    letter = die(appliance, "big", b"x" * 1001, message_id="their-id")
    assert (letter["reason"], letter["topic"]) == ("too-large", "big")
    assert "their-id" in letter["error"]
    assert (letter["bytes"], letter["body"], letter["encoding"]) == (1001, "x" * 1001, "utf-8")
    assert "1001 bytes" in letter["error"]
    assert letter["received_at"] <= letter["dead_at"]
    path = f"/v1/dead-letters/{letter['seq']}"
    assert appliance.get(path).json() == letter
    assert appliance.get(f"{path}/body").content == b"x" * 1001


def test_bytes_are_shown_as_base64_and_given_as_they_came(appliance):
    letter = die(appliance, "BINARY", b"\0\xff")
    assert (letter["body"], letter["encoding"]) == ("AP8=", "base64")
    assert appliance.get(f"/v1/dead-letters/{letter['seq']}/body").content == b"\0\xff"


def test_a_body_over_8_mib_is_asked_for_by_itself(appliance):
    body = b"x" * (8 * 2**20 + 1)
    letter = die(appliance, "huge", body)
    assert (letter["bytes"], letter["body"], letter["encoding"]) == (len(body), None, None)
    assert appliance.get(f"/v1/dead-letters/{letter['seq']}/body").content == body
    assert redrive(appliance, letter).status_code == 422
    shown = appliance.cli("dead", "show", str(letter["seq"]))
    assert b"--body writes every byte" in shown.stdout
    assert appliance.cli("dead", "show", str(letter["seq"]), "--body").stdout == body


def test_pages_follow_one_another_in_both_directions(appliance):
    found = conflict(appliance, "pages", "k", b"first", *(b"%d" % n for n in range(7)))
    newest_first = [letter["seq"] for letter in found]
    assert newest_first == sorted(newest_first, reverse=True)
    for order, start in ((newest_first, {}), (newest_first[::-1], {"after": "0"})):
        seen, url = [], f"/v1/dead-letters?topic=pages&limit=3&after={start.get('after', '')}"
        url = url.removesuffix("&after=")
        while url:
            page = appliance.get(url).json()
            assert page["count"] == 7
            seen += [letter["seq"] for letter in page["dead_letters"]]
            url = page["next_url"]
        assert seen == order
    assert letters(appliance, topic="pages", reason="empty") == []
    assert len(letters(appliance, topic="pages", reason="conflict")) == 7


def test_exports_hold_all_of_them(appliance):
    conflict(appliance, "export", "k", b"first", b"=1+1", b"\xff")
    lines = appliance.get("/v1/dead-letters?topic=export&format=ndjson").text.splitlines()
    assert [json.loads(line) for line in lines] == letters(appliance, topic="export")
    assert len(appliance.get("/v1/dead-letters?format=ndjson&limit=1").text.splitlines()) == 1
    answer = appliance.get("/v1/dead-letters?topic=export&format=csv&after=0")
    assert 'filename="dead-letters.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["body"] for row in rows] == ["'=1+1", "/w=="]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("?limit=0", 400),
        ("?after=x", 400),
        ("?color=red", 400),
        ("?format=xml", 400),
        ("/0", 400),
        ("/x", 400),
        ("/99999999999999999999", 400),
        ("/999999999999", 404),
        ("/9223372036854775808", 404),
        ("/01890a5d-ac96-774b-bcce-b302099a8057", 404),
        ("/999999999999/body", 404),
        ("/1?a=b", 400),
    ],
)
def test_a_letter_that_is_not_there_or_a_senseless_name_gets_words(appliance, path, status):
    answer = appliance.get(f"/v1/dead-letters{path}")
    status = 400 if path == "/9223372036854775808" else status  # more than SQLite counts
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_message_that_died_is_found_by_its_id(appliance):
    letter, *_ = conflict(appliance, "by-id", "k", b"first", b"second")
    assert appliance.get(f"/v1/dead-letters/{letter['id']}").json() == letter
    conflict(appliance, "by-id", "k", b"first", b"second", b"third")
    for call in (appliance.client.get, appliance.client.delete):
        answer = call(f"/v1/dead-letters/{letter['id']}")
        assert answer.status_code == 409
        assert str(letter["seq"]) in answer.json()["detail"]
    assert len(letters(appliance, topic="by-id")) == 2


def test_status_counts_them(appliance):
    die(appliance, "counted", b"")
    total = appliance.get("/v1/dead-letters?limit=1").json()["count"]
    assert appliance.get("/v1/status").json()["store"]["dead_letters"] == total
    assert f"{total:,} dead letter" in appliance.cli("status").stdout.decode()


def test_the_same_poison_in_two_topics_is_two_letters(appliance):
    """A key counts within its topic: for a letter as for a message."""
    for topic in ("TWO", "TOPICS", "two", "topics"):
        for _ in range(2):
            publish_foreign(appliance, topic, b"" if topic.islower() else b"x", message_id="same")
    assert appliance.publish("after-two", b"x", Prefer="wait=30").status_code == 201
    for topic in ("TWO", "TOPICS", "two", "topics"):
        assert len(letters(appliance, topic=topic)) == 1


# --- sending them again


def test_a_conflict_sent_again_is_a_message_of_its_own(appliance):
    letter, *_ = conflict(appliance, "again", "k", b"first", b"second")
    answer = redrive(appliance, letter)
    assert answer.status_code == 202
    made = answer.json()
    assert (made["topic"], made["status"], made["seq"]) == ("again", "queued", letter["seq"])
    assert made["id"] != letter["id"]
    assert [row["body"] for row in appliance.wait_rows(2, "again")] == ["first", "second"]
    assert appliance.get(answer.headers["location"]).json()["received_at"] == made["received_at"]
    assert letters(appliance, topic="again") == []
    assert redrive(appliance, letter).status_code == 404


def test_one_without_a_topics_name_is_sent_where_it_is_told(appliance):
    letter = die(appliance, "NO TOPIC", b"x")
    answer = redrive(appliance, letter)
    assert (answer.status_code, answer.json()["type"][-14:]) == (422, "not-redrivable")
    assert "?topic=" in answer.json()["detail"]
    assert redrive(appliance, letter, topic="NOR THIS").status_code == 400
    assert redrive(appliance, letter, topic="told").status_code == 202
    assert [row["body"] for row in appliance.wait_rows(1, "told")] == ["x"]
    assert letters(appliance, topic="NO TOPIC") == []


@pytest.mark.parametrize("body", [b"", b"x" * 1001], ids=["empty", "too-large"])
def test_one_that_would_only_die_again_is_refused_and_stays(appliance, body):
    letter = die(appliance, f"stays-{len(body)}", body)
    answer = redrive(appliance, letter)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert letters(appliance, topic=letter["topic"]) == [letter]


def test_one_that_could_not_be_decoded_becomes_a_message_with_its_bytes(appliance):
    letter = die(appliance, "undecodable", b'["half', type="appliance.lines", user_id="appliance")
    assert letter["reason"] == "undecodable"
    assert redrive(appliance, letter).status_code == 202
    assert [row["body"] for row in appliance.wait_rows(1, "undecodable")] == ['["half']


def test_a_letter_that_the_limit_refused_is_taken_once_the_limit_is_higher(stack):
    small = stack(max_message_bytes=10)
    letter = die(small, "limit", b"x" * 11)
    assert redrive(small, letter).status_code == 422
    for process in (small.api, *small.workers):
        assert process.stop() == 0
        process.env = small.env | {"APPLIANCE_MAX_MESSAGE_BYTES": "100"}
        process.start()
    small.wait_ready()
    assert redrive(small, letter).status_code == 202
    assert [row["body"] for row in small.wait_rows(1, "limit")] == ["x" * 11]


def test_the_api_killed_between_publish_and_removal_makes_one_row(appliance):
    letter, *_ = conflict(appliance, "killed", "k", b"first", b"second")
    assert appliance.api.stop() == 0
    for _ in range(2):
        dying = subprocess.Popen(
            [sys.executable, "-c", PUBLISHES_AND_DIES, "api"],
            env=appliance.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            redrive_until_killed(appliance, letter, dying)
        finally:
            dying.kill()
            dying.wait()
    appliance.api.start()
    wait_accepting(appliance)
    assert len(appliance.wait_rows(2, "killed")) == 2  # it was published, and is stored
    assert letters(appliance, topic="killed") == [letter]
    assert redrive(appliance, letter, topic="another").status_code == 202
    wait_drained(appliance)
    assert [row["body"] for row in appliance.rows("killed")] == ["first", "second"]
    assert appliance.count("another") == 0  # the same message, wherever it is sent


def redrive_until_killed(stack, letter, dying):
    def killed():
        try:
            redrive(stack, letter)  # the first may come before it has found the broker: 503
        except httpx.TransportError:
            return dying.poll() is not None
        return False

    wait_until(killed, "the API died in a redrive", START_SECONDS, stack.logs)
    assert dying.wait(30) == -signal.SIGKILL


def test_a_store_that_is_locked_keeps_the_letter_and_says_later(appliance):
    letter, *_ = conflict(appliance, "locked", "k", b"first", b"second")
    other = sqlite3.connect(appliance.database, isolation_level=None, timeout=30)
    other.execute("BEGIN IMMEDIATE")
    try:
        for answer in (
            redrive(appliance, letter),
            appliance.client.delete(f"/v1/dead-letters/{letter['seq']}"),
        ):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert letters(appliance, topic="locked") == [letter]
    assert redrive(appliance, letter).status_code == 202  # published twice, and one row
    wait_drained(appliance)
    assert [row["body"] for row in appliance.rows("locked")] == ["first", "second"]
    assert letters(appliance, topic="locked") == []


def test_without_a_broker_a_letter_stays_and_the_rest_is_answered(stack):
    alone = stack(publish_timeout=1)
    letter = die(alone, "alone", b"x", type="appliance.lines", user_id="appliance")
    alone.broker.process.kill()
    wait_until(lambda: alone._status("/readyz") == 503, "it is noticed", 30, alone.logs)
    answer = redrive(alone, letter)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert letters(alone, topic="alone") == [letter]


# --- discarding


def test_a_discarded_letter_is_gone(appliance):
    letter = die(appliance, "discarded", b"")
    path = f"/v1/dead-letters/{letter['seq']}"
    answer = appliance.client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert appliance.client.delete(path).status_code == 404
    assert letters(appliance, topic="discarded") == []


# --- the command line


def test_the_command_lists_the_newest_first(appliance):
    found = conflict(appliance, "listed", "k", b"first", b"second", b"third")
    done = appliance.cli("dead", "list", "--topic", "listed")
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.decode().splitlines()
    assert head.split()[0] == "SEQ"
    assert [int(line.split()[0]) for line in lines] == [letter["seq"] for letter in found]
    assert "2 of 2 dead letters" in done.stderr.decode()
    done = appliance.cli("dead", "list", "--topic", "listed", "-n", "1", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == found[:1]


def test_the_command_shows_one(appliance):
    letter, *_ = conflict(appliance, "shown", "k", b"first", b"the body")
    done = appliance.cli("dead", "show", str(letter["seq"]))
    assert done.returncode == 0
    for part in (letter["id"], letter["error"], "conflict", "the body", '"via": "amqp"'):
        assert part in done.stdout.decode()
    done = appliance.cli("dead", "show", letter["id"], "--json")
    assert json.loads(done.stdout) == letter
    assert appliance.cli("dead", "show", "999999999").returncode == 1


def test_the_command_redrives_all_of_a_topic_and_names_what_it_could_not(appliance):
    conflict(appliance, "bulk", "k", b"first", *(b"%d" % n for n in range(250)))
    publish_foreign(appliance, "bulk", b"")
    wait_until(lambda: letters(appliance, topic="bulk", reason="empty"), "it died", 30)
    done = appliance.cli("dead", "redrive", "--topic", "bulk", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["redriven"], report["gone"]) == (250, 0)
    assert ["no body" in each["detail"] for each in report["refused"]] == [True]
    rows = appliance.wait_rows(251, "bulk")
    assert [row["body"] for row in rows] == ["first", *map(str, range(250))]  # in their order
    done = appliance.cli("dead", "discard", "--topic", "bulk", "--reason", "empty", "--yes")
    assert (done.returncode, done.stderr) == (0, b"1 discarded\n")
    assert letters(appliance, topic="bulk") == []


def test_the_command_redrives_to_another_topic(appliance):
    letter = die(appliance, "No Topic Either", b"x")
    done = appliance.cli("dead", "redrive", str(letter["seq"]), "--to", "elsewhere")
    assert done.returncode == 0, done.stderr
    assert [row["body"] for row in appliance.wait_rows(1, "elsewhere")] == ["x"]


def test_many_that_are_refused_are_not_all_named(appliance):
    publish_foreign(appliance, "refused", *[b""] * 25)
    wait_until(lambda: len(letters(appliance, topic="refused")) == 25, "they died", 30)
    done = appliance.cli("dead", "redrive", "--topic", "refused")
    assert done.returncode == 1
    head, *named, last = done.stderr.decode().splitlines()
    assert (head, len(named), last) == ("0 sent again", 20, "and 5 more, see --json")


def test_two_who_discard_the_same_are_both_told_that_it_is_gone(appliance):
    publish_foreign(appliance, "both", *[b""] * 150)
    wait_until(lambda: len(letters(appliance, topic="both")) == 150, "they died", 30)
    arguments = [APPLIANCE, "dead", "discard", "--topic", "both", "--yes", "--json"]
    both = [
        subprocess.Popen(arguments, env=appliance.env, stdout=subprocess.PIPE) for _ in range(2)
    ]
    reports = [json.loads(each.communicate(timeout=60)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert sum(report["discarded"] for report in reports) == 150
    assert [report["refused"] for report in reports] == [[], []]
    assert letters(appliance, topic="both") == []


def test_a_letter_that_is_not_there_ends_with_1(appliance):
    for command in ("redrive", "discard"):
        done = appliance.cli("dead", command, "999999999")
        assert done.returncode == 1
        assert b"999999999: there is no such dead letter" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("redrive",),
        ("discard",),
        ("redrive", "1", "--all"),
        ("discard", "--all", "--reason", "empty"),
        ("redrive", "1", "--to", "NO TOPIC"),
        ("show",),
        ("list", "-n", "0"),
    ],
)
def test_wrong_usage_ends_with_2(appliance, arguments):
    done = appliance.cli("dead", *arguments)
    assert done.returncode == 2
    assert b"Usage:" in done.stderr


def test_many_are_discarded_only_by_who_means_it(appliance):
    conflict(appliance, "meant", "k", b"first", b"second", b"third")
    arguments = ("dead", "discard", "--topic", "meant")
    done = appliance.cli(*arguments, input=b"")
    assert done.returncode == 2
    assert b"2 dead letters, topic meant; give --yes" in done.stderr
    assert at_a_terminal(appliance, arguments, b"n\n")[0] == 1
    assert len(letters(appliance, topic="meant")) == 2
    status, output = at_a_terminal(appliance, arguments, b"y\n")
    assert status == 0, output
    assert b"Discard 2 dead letters, topic meant?" in output
    assert b" 2/2" in output
    assert letters(appliance, topic="meant") == []


def at_a_terminal(stack, arguments, keys):
    """Run a command at a terminal; return its exit status and what it wrote there."""
    main, terminal = pty.openpty()
    running = subprocess.Popen(
        [APPLIANCE, *arguments], env=stack.env, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    os.write(main, keys)
    output = b""
    while True:
        try:
            output += os.read(main, 65536)
        except OSError:  # the other end is closed
            break
    os.close(main)
    return running.wait(60), output
