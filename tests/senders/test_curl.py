"""curl: what people paste into a shell is stored as they meant it, with a token or without.

Each command is run by a shell, as it would be typed. `$U` is the appliance, `$TOKEN` a token, `$IN`
an inbox address.
"""

import gzip
import json
import subprocess
from itertools import count

import pytest
from harness import wait_until
from load import wait_drained

pytestmark = pytest.mark.slow

NUMBERS = count(1)
PICTURE = bytes(range(256)) * 40
LINES = "first\nsecond gr\u00fc\u00dfe\n\nfourth\n"


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack()


@pytest.fixture
def folder(tmp_path):
    """Files that the commands send."""
    (tmp_path / "picture.png").write_bytes(PICTURE)
    (tmp_path / "app.log").write_text(LINES)
    (tmp_path / "app.log.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "windows.log").write_bytes("one\r\ntwo \u00e4\u00f6\r\n".encode("utf-16"))
    (tmp_path / "latin.txt").write_bytes("K\u00f6ln 21\u00b0C".encode("latin-1"))
    (tmp_path / "big.bin").write_bytes(b"x" * 1_048_576)
    (tmp_path / "events.json").write_text('[{"n":1},{"n":2}]')
    (tmp_path / "events.ndjson").write_text('{"n":1}\n{"n":2}\n')
    return tmp_path


@pytest.fixture
def topic():
    return f"curl-{next(NUMBERS)}"


@pytest.fixture
def run(running, folder, topic):
    """Runs a command; returns what it prints."""

    addresses = []

    def address(settings):
        if not addresses:
            made = {"topic": topic, "settings": settings}
            addresses.append(running.client.post("/v1/inboxes", json=made).json()["address"])
        return addresses[0]

    def shell(command, fails=False, **settings):
        environment = {
            "PATH": running.env["PATH"],
            "U": running.url,
            "T": f"{running.url}/v1/topics/{topic}/messages",
            "TOKEN": running.token,
            "IN": address(settings),
        }
        quiet = command.replace("curl ", "curl -sS --fail-with-body ")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", quiet],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert bool(done.returncode) is fails, done.stdout + done.stderr + running.logs()
        return done.stdout

    return shell


def bodies(running, topic):
    wait_drained(running)
    return [row["body"] for row in running.rows(topic)]


@pytest.mark.parametrize(
    ("command", "stored"),
    [
        # a token
        ('curl -H "Authorization: Bearer $TOKEN" -d hello $T', ["hello"]),
        ('curl -u "anyone:$TOKEN" -d hello $T', ["hello"]),
        ('curl -d hello "${T/:\\/\\//://hook:$TOKEN@}"', ["hello"]),
        ('curl -H @<(echo "Authorization: Bearer $TOKEN") -d hello $T', ["hello"]),
        ('curl -u "x:$TOKEN" -d name=Ada -d age=36 $T', ["name=Ada&age=36"]),
        ('curl -u "x:$TOKEN" --json \'{"n": 1.50}\' $T', ['{"n": 1.50}']),
        ('curl -u "x:$TOKEN" --data-binary @app.log $T', [LINES]),
        ('curl -u "x:$TOKEN" --data-binary @picture.png $T', [PICTURE]),
        ('curl -u "x:$TOKEN" -T picture.png $T', [PICTURE]),
        ('cat app.log | curl -u "x:$TOKEN" -T - $T', [LINES]),
        ('curl -u "x:$TOKEN" --data-binary @big.bin $T', ["x" * 1_048_576]),
        ('curl -u "x:$TOKEN" --data-binary @app.log "$T?split=lines"',
         ["first", "second gr\u00fc\u00dfe", "fourth"]),
        ('curl -u "x:$TOKEN" --data-binary @windows.log "$T?split=lines"',
         ["one", "two \u00e4\u00f6"]),
        ('curl -u "x:$TOKEN" -H "Content-Type: application/json" -d @events.json "$T?split=array"',
         ['{"n":1}', '{"n":2}']),
        ('curl -u "x:$TOKEN" -H "Content-Type: application/jsonl" --data-binary @events.ndjson $T',
         ['{"n":1}', '{"n":2}']),
        ('curl -u "x:$TOKEN" --data-binary @events.ndjson "$T?split=ndjson"',
         ['{"n":1}', '{"n":2}']),
        ('curl -u "x:$TOKEN" -H "Content-Encoding: gzip" --data-binary @app.log.gz $T', [LINES]),
        (('gzip -c app.log | curl -u "x:$TOKEN" -H "Content-Encoding: gzip" --data-binary @- '
         '"$T?split=lines"'), ["first", "second gr\u00fc\u00dfe", "fourth"]),
        ('gzip -c app.log | curl -u "x:$TOKEN" -H "Content-Encoding: gzip" -T - $T', [LINES]),
        ('curl -u "x:$TOKEN" --data-binary @app.log.gz $T', [gzip.compress(LINES.encode())]),
        (('curl -u "x:$TOKEN" -H "Content-Type: text/plain; charset=iso-8859-1" '
         "--data-binary @latin.txt $T"), ["K\u00f6ln 21\u00b0C"]),
        ('curl -u "x:$TOKEN" -F note=hello -F file=@picture.png $T', ['{"note":"hello"}', PICTURE]),
        # an inbox address
        ("curl -d hello $IN", ["hello"]),
        ("curl -d '{\"n\": 1}' $IN", ['{"n": 1}']),
        ("curl --json '{\"n\": 1}' $IN", ['{"n": 1}']),
        ("curl -d name=Ada -d age=36 $IN", ['{"name":"Ada","age":"36"}']),
        ("curl --data-urlencode 'text=2 < 3 & \u00fc' $IN", ['{"text":"2 < 3 & \u00fc"}']),
        ("curl -F note=hello -F file=@picture.png $IN", ['{"note":"hello"}', PICTURE]),
        ("curl -F 'file=<app.log' $IN", [json.dumps({"file": LINES}, ensure_ascii=False,
                                                    separators=(",", ":"))]),
        ("curl -T picture.png $IN", [PICTURE]),
        ("tail -n 1 app.log | curl -T - $IN", ["fourth\n"]),
        ("gzip -c app.log | curl -H 'Content-Encoding: gzip' --data-binary @- $IN", [LINES]),
    ],
)  # fmt: skip
def test_curl_stores_what_was_meant(running, run, topic, command, stored):
    run(command)
    found = bodies(running, topic)
    if stored and stored[0] != found[0] and isinstance(found[0], bytes):
        # gzip writes the time into its head
        found, stored = [gzip.decompress(found[0])], [gzip.decompress(stored[0])]
    assert found == stored


def test_curl_shows_the_answer_when_it_asks_for_a_redirect_a_head_or_compression(run):
    assert json.loads(run('curl --compressed -u "x:$TOKEN" -d hello $T'))["status"] == "queued"
    assert json.loads(run('curl -L -u "x:$TOKEN" -d hello $T'))["status"] == "queued"
    assert "200 OK" in run("curl -I $IN")
    assert "200 OK" in run('curl -I -u "x:$TOKEN" $T')


def test_curl_that_repeats_by_itself_stores_a_message_once(running, run, topic):
    for _ in range(3):
        run('curl --retry 3 -u "x:$TOKEN" -H "Idempotency-Key: backup-7" -d done $T')
    assert bodies(running, topic) == ["done"]


def test_curl_with_a_wrong_token_or_address_is_told_so_and_nothing_is_stored(running, run, topic):
    assert '"status":401' in run('curl -u "x:${TOKEN}x" -d hello $T', fails=True)
    assert '"status":401' in run("curl -d hello $T", fails=True)
    assert '"status":404' in run('curl -d hello "${IN}x"', fails=True)
    assert bodies(running, topic) == []


def test_curl_that_sends_damaged_gzip_is_told_so_and_nothing_is_stored(running, run, topic):
    command = (
        'head -c 20 app.log.gz | curl -u "x:$TOKEN" -H "Content-Encoding: gzip" --data-binary @- '
    )
    assert '"status":400' in run(command + "$T", fails=True)
    assert '"status":400' in run(
        'curl -u "x:$TOKEN" -H "Content-Encoding: gzip" --data-binary @app.log $T', fails=True
    )
    assert bodies(running, topic) == []


def test_file_of_a_form_keeps_its_name_and_type_beside_it(running, run, topic):
    run("curl -F 'report=@picture.png;type=image/png;filename=M\u00e4rz.png' $IN")
    wait_until(lambda: running.count(topic), "it is stored", 10)
    (row,) = running.rows(topic)
    assert row["content_type"] == "image/png"
    assert json.loads(row["meta"])["file"] == {"field": "report", "name": "M\u00e4rz.png"}


def test_device_that_can_only_get_has_its_query_stored_where_the_address_allows_it(
    running, run, topic
):
    run('curl "$IN?temperature=21.5&room=K%C3%BCche"', allow_get=True)
    assert bodies(running, topic) == ['{"temperature":"21.5","room":"K\u00fcche"}']


def test_query_of_a_get_is_not_stored_where_the_address_does_not_allow_it(running, run, topic):
    assert "takes messages" in run('curl "$IN?temperature=21.5"')
    assert bodies(running, topic) == []
