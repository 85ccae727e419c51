"""Batches of which the bad lines become dead letters, and files whose sending was cut off."""

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import threading

import pytest
from harness import APPLIANCE, wait_until
from load import wait_accepting, wait_drained

pytestmark = pytest.mark.slow

NDJSON = {"Content-Type": "application/x-ndjson"}
HOSTILE = b'{"t":1}\n{"t":NaN}\n\r\n{"t":3}\n' + b"[" * 2000 + b'\n\xff\xfe\n"\\ud83d"\n{"t":8}'


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(workers=1, max_message_bytes=65536)


def post(running, topic, body, query="?on-bad=dead-letter", headers=NDJSON, **more):
    return running.client.post(
        f"/v1/topics/{topic}/messages{query}", content=body, headers={**headers, **more}
    )


def rows(running, topic, table="messages"):
    with contextlib.closing(sqlite3.connect(f"file:{running.database}?mode=ro", uri=True)) as db:
        return db.execute(
            f"SELECT * FROM {table} WHERE topic = ? ORDER BY seq", (topic,)
        ).fetchall()


def letters(running, topic):
    answer = running.client.get("/v1/dead-letters", params={"topic": topic, "limit": 1000})
    return answer.json()["dead_letters"][::-1]


def test_good_lines_are_kept_in_order_and_bad_ones_are_dead_letters_by_line_number(running):
    answer = post(running, "sift", HOSTILE, headers={**NDJSON, "X-Event-Id": "7"})
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["count"] == 3
    assert told["dead"] == {"count": 4, "reasons": {"not-json": 4}, "lines": [2, 5, 6, 7]}
    wait_drained(running)
    page = running.client.get("/v1/topics/sift/messages", params={"after": "0"}).json()
    assert [m["body"] for m in page["messages"]] == ['{"t":1}', '{"t":3}', '{"t":8}']
    assert [m["id"] for m in page["messages"]] == told["ids"]
    dead = letters(running, "sift")
    assert [letter["meta"]["line"] for letter in dead] == [2, 5, 6, 7]
    assert {letter["reason"] for letter in dead} == {"not-json"}
    assert all(f"line {letter['meta']['line']} is not JSON" in letter["error"] for letter in dead)
    assert {letter["meta"]["headers"]["x-event-id"] for letter in dead} == {"7"}
    body = running.client.get(f"/v1/dead-letters/{dead[2]['seq']}/body").content
    assert body == b"\xff\xfe"


def test_lines_of_a_text_die_only_of_their_length(running):
    body = b"no json\n" + b"x" * 65_537 + b"\nlast"
    told = post(running, "long", body, "?split=lines&on-bad=dead-letter&line=101", headers={})
    assert told.json()["dead"] == {"count": 1, "reasons": {"too-large": 1}, "lines": [102]}
    wait_drained(running)
    (letter,) = letters(running, "long")
    assert (letter["bytes"], letter["reason"], letter["meta"]) == (
        65_537,
        "too-large",
        {"line": 102},
    )
    again = running.client.post(f"/v1/dead-letters/{letter['seq']}/redrive")
    assert again.status_code == 422  # until APPLIANCE_MAX_MESSAGE_BYTES allows it
    assert len(rows(running, "long")) == 2


def test_a_batch_is_still_all_or_nothing_unless_it_asks(running):
    for query in ("", "?on-bad=refuse"):
        answer = post(running, "strict", HOSTILE, query)
        assert answer.status_code == 400
        assert "line 2" in answer.json()["detail"]
    assert "dead" not in post(running, "strict", b"{}\n[]", "").json()
    wait_drained(running)
    assert len(rows(running, "strict")) == 2


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?on-bad=dead-letter", {}),
        ("?on-bad=ignore", NDJSON),
        ("?on-bad=", NDJSON),
        ("?on-bad=dead-letter&on-bad=dead-letter", NDJSON),
        ("?line=5", NDJSON),
        ("?on-bad=refuse&line=5", NDJSON),
        ("?on-bad=dead-letter&line=0", NDJSON),
        ("?on-bad=dead-letter&line=-1", NDJSON),
        ("?on-bad=dead-letter&line=1e3", NDJSON),
        ("?on-bad=dead-letter&line=" + "9" * 99, NDJSON),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(running, query, headers):
    answer = post(running, "nonsense", b"{}\n", query, headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert rows(running, "nonsense") == []


def test_a_key_gives_the_same_outcome_again_also_after_a_restart(running):
    def send(body=HOSTILE):
        return post(running, "key", body, **{"Idempotency-Key": "k1"})

    first = send().json()
    assert send().json() == first
    wait_drained(running)
    running.api.kill()
    running.api.start()
    wait_accepting(running)
    again = send().json()
    assert (again["ids"], again["count"], again["dead"]) == (
        first["ids"], first["count"], first["dead"],
    )  # fmt: skip
    assert send(HOSTILE.replace(b"8", b"9")).status_code == 422
    # One of the dead letters is mended, so to say, and sent again: it keeps its id.
    dead = letters(running, "key")
    redriven = running.client.post(f"/v1/dead-letters/{dead[0]['seq']}/redrive").json()
    assert redriven["id"] == dead[0]["id"]
    wait_drained(running)
    running.api.kill()
    running.api.start()
    wait_accepting(running)
    assert send().json()["ids"] == first["ids"]
    wait_drained(running)
    assert len(rows(running, "key")) == 4
    assert len(letters(running, "key")) == 3


def test_a_batch_of_bad_lines_only_is_dead_letters_once(running):
    for _ in range(2):
        told = post(running, "all-bad", b"no\nnever\n", **{"Idempotency-Key": "x"}).json()
        assert (told["count"], told["ids"], told["dead"]["count"]) == (0, [], 2)
    wait_drained(running)
    running.api.kill()
    running.api.start()
    wait_accepting(running)
    assert post(running, "all-bad", b"no\nnever\n", **{"Idempotency-Key": "x"}).status_code == 202
    wait_drained(running)
    assert rows(running, "all-bad") == []
    assert [letter["meta"]["line"] for letter in letters(running, "all-bad")] == [1, 2]


def test_waiting_ends_when_the_last_good_line_is_a_row(running):
    answer = post(running, "wait", b"1\nno\n2\nno\n", Prefer="wait=10")
    assert (answer.status_code, answer.json()["status"]) == (201, "stored")
    assert len(rows(running, "wait")) == 2


def test_a_large_batch_with_bad_lines_and_long_headers_stays_whole(running):
    lines = [b"no" if n % 7 == 0 else b"%d" % n for n in range(60_000)]
    answer = post(running, "large", b"\n".join(lines), **{"X-Event-Id": "e" * 3000})
    assert answer.status_code == 202, answer.text
    assert answer.json()["dead"]["count"] == 8572
    wait_until(lambda: len(rows(running, "large")) > 50_000, "all rows")
    wait_drained(running)
    assert len(rows(running, "large")) == 60_000 - 8572
    assert len(rows(running, "large", "dead_letters")) == 8572


# --- the command line


class Cut:
    """A way to the API that ends after some bytes, as a network does."""

    def __init__(self, url):
        host, _, port = url.removeprefix("http://").partition(":")
        self.target = host, int(port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answers = 0  # how many are let through before all is silent
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            threading.Thread(target=self._copy, args=(client, server), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source, target, answers=False):
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                if answers:
                    if self.answers <= 0:
                        source.shutdown(socket.SHUT_RDWR)
                        target.shutdown(socket.SHUT_RDWR)
                        return  # the answer is lost, what was asked is kept
                    self.answers -= 1
                target.sendall(data)


def test_a_file_whose_sending_lost_the_network_is_gone_on_with_and_stored_once(running, tmp_path):
    path = tmp_path / "lines"
    lines = [f"line {n}" for n in range(23_456)]
    path.write_text("\n".join(lines))
    way = Cut(running.url)
    way.answers = 2
    env = {**running.env, "APPLIANCE_URL": way.url, "APPLIANCE_TOKEN": running.token}
    cut = running.cli("publish", "resume", "--file", str(path), "--timeout", "1", env=env)
    assert cut.returncode == 69, cut.stderr
    assert b"10,000 messages before are on the appliance's disk" in cut.stderr
    way.answers = 10**9
    done = running.cli("publish", "resume", "--file", str(path), "--wait", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert b"going on at line 10001, where the run of 20" in done.stderr
    assert json.loads(done.stdout)["resumed_at_line"] == 10_001
    assert [row["body"] for row in running.wait_rows(23_456, "resume")] == lines
    once_more = running.cli("publish", "resume", "--file", str(path), "--wait", env=env)
    assert b"going on" not in once_more.stderr
    assert len(rows(running, "resume")) == 2 * 23_456
    way.listener.close()


def test_a_file_whose_sending_was_killed_again_and_again_is_stored_once(running, tmp_path):
    path = tmp_path / "lines"
    lines = [f"{n} {'x' * 300}" for n in range(100_000)]
    path.write_text("\n".join(lines) + "\n")
    command = [APPLIANCE, "publish", "killed", "--file", str(path)]
    folder = running.broker.data.with_name("state") / "queue-appliance"

    def place():
        """Return how far the run has noted that it is."""
        notes = list(folder.glob("publish-*.json"))
        with contextlib.suppress(FileNotFoundError):
            return json.loads(notes[0].read_text())["offset"] if notes else 0
        return 0

    # Half of the file is left for the last one: one that has ended has no place, nor can be killed.
    for share in (0.1, 0.2, 0.35, 0.5):
        sending = subprocess.Popen(command, env=running.env, stderr=subprocess.PIPE)
        wait_until(lambda: place() > share * path.stat().st_size, "progress")  # noqa: B023
        sending.kill()
        sending.communicate()
        assert sending.returncode == -signal.SIGKILL
    done = running.cli(*command[1:], "--wait")
    assert b"going on at line" in done.stderr
    wait_drained(running)
    assert [row[3] for row in rows(running, "killed")] == lines


def test_a_file_goes_on_with_bad_lines_as_dead_letters_once_they_stopped_it(running, tmp_path):
    path = tmp_path / "events.ndjson"
    lines = [b'{"n":%d}' % n for n in range(12_000)]
    lines[11_111] = b'{"n":'
    path.write_bytes(b"\n".join(lines))
    arguments = ("publish", "mended", "--file", str(path), "--ndjson")
    stopped = running.cli(*arguments)
    assert stopped.returncode == 1
    assert b"line 1112 is not JSON" in stopped.stderr
    done = running.cli(*arguments, "--on-bad", "dead-letter", "--wait")
    assert done.returncode == 0, done.stderr
    assert b"going on at line 10001" in done.stderr
    assert b"1 line became a dead letter (1 not-json): appliance dead list" in done.stderr
    assert len(rows(running, "mended")) == 11_999
    (letter,) = letters(running, "mended")
    assert letter["meta"]["line"] == 11_112
    assert letter["error"].startswith("line 11112 is not JSON")
