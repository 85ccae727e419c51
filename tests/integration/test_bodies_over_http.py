"""Bodies as senders send them, over real HTTP: what becomes of them in the database."""

import gzip
import json
import subprocess
import threading
import time
import zlib

import httpx
import pytest
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from appliance.api.bodies.plan import SPLITS

MIB = 2**20
EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(max_message_bytes=64 * 1024, max_request_bytes=MIB)


def bodies(running, topic, count):
    return [row["body"] for row in running.wait_rows(count, topic)]


def refused(answer, status, word):
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:queue-appliance:problem:{word}"
    return answer.json()["detail"]


# --- compressed (case 14) ------------------------------------------------------------------------


def test_gzip_from_a_pipe_is_unpacked(running):
    """As a shell does it: echo '{"a":1}' | gzip | curl --data-binary @-."""
    packed = subprocess.run(["gzip"], input=b'{"a":1}\n', stdout=subprocess.PIPE, check=True).stdout
    answer = running.publish("gz-pipe", packed, Content_Encoding="gzip")
    assert answer.status_code == 202
    assert bodies(running, "gz-pipe", 1) == ['{"a":1}\n']


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_log_lines_of_a_shipper_that_packs_are_rows(running, coding):
    """Fluent Bit: json_lines as application/json, packed; small at once, large in a thread."""
    for count in (3, 9000):
        lines = b"".join(b'{"log":"line %d","stream":"stdout"}\n' % n for n in range(count))
        packed = gzip.compress(lines) if coding == "gzip" else zlib.compress(lines)
        topic = f"{coding}-{count}"
        answer = running.publish(
            topic, packed, {"split": "ndjson"}, Content_Encoding=coding,
            Content_Type="application/json",
        )  # fmt: skip
        assert answer.json()["count"] == count
        assert bodies(running, topic, count) == lines.decode().splitlines()


def test_a_bomb_is_refused_while_others_are_served(running):
    """64 KiB that stand for 64 MiB, from eight connections at once, for two seconds."""
    bomb = gzip.compress(b"\0" * 64 * MIB)
    until, answers, times = time.monotonic() + 2, [], []

    def attack():
        with httpx.Client(base_url=running.url, headers=running.client.headers) as client:
            while time.monotonic() < until:
                answers.append(
                    client.post(
                        "/v1/topics/bomb/messages?split=lines",
                        content=bomb,
                        headers={"content-encoding": "gzip"},
                    )
                )

    threads = [threading.Thread(target=attack) for _ in range(8)]
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        began = time.monotonic()
        assert running.get("/healthz").status_code == 200
        times.append(time.monotonic() - began)
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert "more than 1048576 bytes" in refused(answers[0], 413, "too-large")
    assert {answer.status_code for answer in answers} == {413}
    assert sorted(times)[len(times) // 2] < 0.1
    assert running.count("bomb") == 0


@pytest.mark.parametrize(
    "body",
    [
        b"plain text",
        gzip.compress(b"a" * 100, mtime=0)[:-4],
        gzip.compress(b"a", mtime=0) + b"x",
        b"\x1f\x8b",
    ],
)
def test_a_damaged_body_is_refused_and_named(running, body):
    detail = refused(running.publish("damaged", body, Content_Encoding="gzip"), 400, "bad-body")
    assert "gzip body" in detail
    assert running.count("damaged") == 0


def test_a_message_that_is_packed_once_more_with_its_key_is_the_same_message(running):
    """A retry may be packed differently; what counts is what it unpacks to."""
    body = b'{"order":1}' * 100
    key = {"Idempotency_Key": "k"}
    first = running.publish("gz-key", body, **key).json()["id"]
    for packed, coding in [
        (gzip.compress(body, 1), "gzip"),
        (gzip.compress(body, 9), "gzip"),
        (zlib.compress(body), "deflate"),
    ]:
        answer = running.publish("gz-key", packed, Content_Encoding=coding, **key)
        assert (answer.status_code, answer.json()["id"]) == (202, first)
    running.wait_rows(1, "gz-key")
    answer = running.publish("gz-key", gzip.compress(b"other"), Content_Encoding="gzip", **key)
    refused(answer, 422, "key-reused")
    assert running.count("gz-key") == 1


# --- charsets (cases 4 and 6) --------------------------------------------------------------------


def test_a_windows_log_becomes_lines_of_text(running):
    text = "line one\r\nline two öä\r\n"
    for codec, body in (("utf-16", text.encode("utf-16")), ("utf-8-sig", text.encode("utf-8-sig"))):
        answer = running.publish(f"log-{codec}", body, {"split": "lines"})
        assert answer.json()["count"] == 2
        assert bodies(running, f"log-{codec}", 2) == ["line one", "line two öä"]


def test_a_utf16_file_without_its_mark_is_refused_and_not_cut(running):
    body = "line one\nline two\n".encode("utf-16-le")
    detail = refused(running.publish("u16", body, {"split": "lines"}), 400, "bad-body")
    assert "charset=utf-16le" in detail
    answer = running.publish(
        "u16", body, {"split": "lines"}, Content_Type="text/plain; charset=utf-16le"
    )
    assert answer.status_code == 202
    assert bodies(running, "u16", 2) == ["line one", "line two"]


def test_a_latin1_line_is_found_by_a_text_search(running):
    body = "good 1\nKöln café\ngood 3\n".encode("latin-1")
    running.publish(
        "latin", body, {"split": "lines"}, Content_Type="text/plain; charset=ISO-8859-1"
    )
    running.wait_rows(3, "latin")
    (row,) = running.query(
        "SELECT body, content_type, meta ->> '$.charset' AS charset FROM messages"
        " WHERE topic = 'latin' AND body LIKE '%caf%'"
    )
    assert tuple(row) == ("Köln café", "text/plain; charset=utf-8", "ISO-8859-1")


def test_a_charset_that_the_bytes_contradict_is_refused(running):
    for body, charset in [(b"caf\xe9", "utf-8"), ("é".encode("utf-16"), "utf-8"), (b"a", "utf-16")]:
        kind = f"text/plain; charset={charset}"
        refused(running.publish("contradiction", body, Content_Type=kind), 400, "bad-body")
    assert running.count("contradiction") == 0


def test_text_that_says_that_it_is_utf8_is_taken_as_it_is_but_for_its_mark(running):
    """As most clients say it."""
    kind = "application/json; charset=utf-8"
    for body in ('{"a":"é"}'.encode(), b'\xef\xbb\xbf{"b":1}', '"\uff01"'.encode()):
        assert running.publish("utf8", body, Content_Type=kind).status_code == 202
    rows = running.wait_rows(3, "utf8")
    assert [row["body"] for row in rows] == ['{"a":"é"}', '{"b":1}', '"\uff01"']
    assert {row["content_type"] for row in rows} == {kind}
    refused(running.publish("utf8", b'{"a":"\xe9"}', Content_Type=kind), 400, "bad-body")
    refused(running.publish("utf8", b"", Content_Type=kind), 400, "bad-body")


def test_bytes_that_are_no_text_stay_as_they_are(running):
    sent = b"\xff\xfe\x00\x01 mp3 or what"
    for kind in ("application/octet-stream", "audio/mpeg", "application/x-protobuf"):
        answer = running.publish("binary", sent, Content_Type=kind)
        assert running.publish("binary", b"x", Prefer="wait=9").status_code == 201
        path = f"/v1/messages/{answer.json()['id']}/body"
        assert running.get(path).content == sent


# --- many messages (case 8) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["application/ndjson", "application/jsonl", "application/x-jsonlines",
     "application/json-lines", "application/x-json-stream", "application/x-ndjson; charset=utf-8"],
)  # fmt: skip
def test_ndjson_under_its_other_names_is_many_rows(running, kind):
    topic = "nd" + kind.partition("/")[2].partition(";")[0]
    answer = running.publish(topic, b'{"a":1}\n{"a":2}\n{"a":3}\n', Content_Type=kind)
    assert answer.json()["count"] == 3
    assert bodies(running, topic, 3) == ['{"a":1}', '{"a":2}', '{"a":3}']


def test_an_array_of_a_shipper_is_a_row_for_each_element(running):
    """Vector's and Fluent Bit's json format, n8n."""
    body = b'[{"a": 1.10, "b":12345678901234567890},\n {"a":"\xc3\xa9"}]'
    answer = running.publish("array", body, {"split": "array"}, Content_Type="application/json")
    assert answer.json()["count"] == 2
    assert bodies(running, "array", 2) == ['{"a": 1.10, "b":12345678901234567890}', '{"a":"é"}']
    empty = running.publish("array", b"[]", {"split": "array"}, Prefer="wait=1").json()
    assert (empty["count"], empty["ids"], empty["topic"]) == (0, [], "array")
    answer = running.publish("array", b'{"a":1}', {"split": "array"})
    assert "no JSON array" in refused(answer, 400, "bad-body")
    running.publish("array", b'[{\n"a":2}]', {"split": "array"}, Idempotency_Key="k")
    again = running.publish("array", b' [ {\n"a":2} ]', {"split": "array"}, Idempotency_Key="k")
    assert again.status_code == 202
    assert bodies(running, "array", 3)[2:] == ['{\n"a":2}']


def test_a_split_that_contradicts_its_media_type_is_refused(running):
    kinds = ["multipart/form-data; boundary=x", "application/json-seq", EVENT]
    for split in SPLITS:
        for kind in kinds:
            answer = running.publish("contradiction", b"x", {"split": split}, Content_Type=kind)
            assert "contradicts" in refused(answer, 400, "bad-request")


# --- forms ---------------------------------------------------------------------------------------


def test_a_form_that_curl_sends_with_files_is_fields_and_files(running, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\0")
    (tmp_path / "notes.txt").write_text("one\ntwo\n")
    done = subprocess.run(
        ["curl", "-sS", "-H", f"Authorization: Bearer {running.token}", "-F", "name=Jürgen",
         "-F", "tag=a", "-F", "tag=b", "-F", f"photo=@{tmp_path}/photo.jpg",
         "-F", f"notes=@{tmp_path}/notes.txt", f"{running.url}/v1/topics/form/messages"],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["count"] == 3
    rows = running.wait_rows(3, "form")
    assert json.loads(rows[0]["body"]) == {"name": "Jürgen", "tag": ["a", "b"]}
    assert [row["body"] for row in rows[1:]] == [b"\xff\xd8\xff\0", "one\ntwo\n"]
    assert [row["content_type"] for row in rows] == ["application/json", "image/jpeg", "text/plain"]
    assert json.loads(rows[1]["meta"])["file"] == {"field": "photo", "name": "photo.jpg"}
    names = running.query(
        "SELECT meta ->> '$.file.name' AS name FROM messages WHERE topic = 'form'"
        " AND content_type = 'image/jpeg'"
    )
    assert [row["name"] for row in names] == ["photo.jpg"]


def test_a_form_sent_again_with_its_key_is_kept_once_whatever_its_boundary(running):
    for boundary in ("one", "two"):
        answer = running.client.post(
            "/v1/topics/form-key/messages",
            files={"f": ("a.csv", b"1;2\n3;4\n", "text/csv")},
            data={"x": "1"},
            headers={
                "Idempotency-Key": "k",
                "Content-Type": f"multipart/form-data; boundary={boundary}",
            },
        )
        assert answer.status_code == 202, answer.text
    assert bodies(running, "form-key", 2) == ['{"x":"1"}', "1;2\n3;4\n"]


def test_a_form_of_curls_d_is_taken_as_it_is_at_a_topic(running):
    kind = "application/x-www-form-urlencoded"
    running.publish("curl-d", b"a=1&b=2", Content_Type=kind)
    assert bodies(running, "curl-d", 1) == ["a=1&b=2"]


# --- CloudEvents ---------------------------------------------------------------------------------


def an_event(**more):
    return CloudEvent(
        {"id": "e-1", "source": "/till/ü 1", "type": "com.example.sale", **more},
        {"total": 12.5},
    )


def test_an_event_is_kept_once_whatever_its_mode(running):
    """The source and the id are the key: sent again in another mode, it is the same event."""
    binary = to_binary(an_event(datacontenttype="application/json"), JSONFormat())
    structured = to_structured(an_event(), JSONFormat())
    answers = [
        running.client.post("/v1/topics/ce/messages", content=m.body, headers=m.headers)
        for m in (binary, structured, binary)
    ]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 1
    (row,) = running.wait_rows(1, "ce")
    assert (row["body"].encode(), row["content_type"]) == (binary.body, "application/json")
    kept = json.loads(row["meta"])
    assert kept["cloudevent"]["source"] == "/till/ü 1"
    assert kept["headers"]["ce-source"] == "/till/%C3%BC%201"
    again = running.client.post(
        "/v1/topics/ce/messages", content=structured.body, headers=structured.headers
    )
    assert again.json()["id"] == row["id"]
    time.sleep(0.5)
    assert running.count("ce") == 1
    assert running.query("SELECT * FROM dead_letters WHERE topic = 'ce'") == []


def test_events_of_a_batch_are_each_kept_once(running):
    def event(number):
        return b'{"specversion":"1.0","id":"%d","source":"/s","type":"t","data":%d}' % (
            number,
            number,
        )

    first = b"[%b,%b]" % (event(1), event(2))
    answer = running.publish("ces", first, Content_Type=BATCH, Prefer="wait=9")
    assert answer.status_code == 201
    ids = answer.json()["ids"]
    again = running.publish("ces", b"[%b, %b]" % (event(3), event(1)), Content_Type=BATCH)
    assert again.json()["ids"][1] == ids[0]
    assert (
        running.publish("ces", event(3), Content_Type=EVENT).json()["id"] == again.json()["ids"][0]
    )
    rows = running.wait_rows(3, "ces")
    time.sleep(0.5)
    assert [row["body"].encode() for row in running.rows("ces")] == [event(1), event(2), event(3)]
    assert {row["content_type"] for row in rows} == {EVENT}
    assert [json.loads(row["meta"])["cloudevent"]["id"] for row in rows] == ["1", "2", "3"]
    found = running.query(
        "SELECT body ->> '$.data' AS data FROM messages WHERE meta ->> '$.cloudevent.id' = '2'"
        " AND topic = 'ces'"
    )
    assert [row["data"] for row in found] == [2]
    assert running.publish("ces", b"[]", Content_Type=BATCH).json()["count"] == 0
    changed = event(1).replace(b'"data":1', b'"data":"changed"')
    answer = running.publish("ces", b"[%b,%b]" % (changed, event(4)), Content_Type=BATCH)
    assert answer.json()["ids"][0] == ids[0]
    assert [row["body"].encode() for row in running.wait_rows(4, "ces")] == [
        event(1), event(2), event(3), event(4),
    ]  # fmt: skip
    assert running.query("SELECT * FROM dead_letters WHERE topic = 'ces'") == []


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_an_event_without_a_required_attribute_is_refused(running, name):
    attributes = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}
    del attributes[name]
    headers = {f"ce-{key}": value for key, value in attributes.items()}
    answer = running.publish("ce-bad", b"x", **headers)
    assert f"ce-{name} is missing" in refused(answer, 400, "bad-request")
    answer = running.publish("ce-bad", json.dumps(attributes).encode(), Content_Type=EVENT)
    assert f"{name} is missing" in refused(answer, 400, "bad-body")
    body = json.dumps([{**attributes, name: "1.0"}, attributes]).encode()
    answer = running.publish("ce-bad", body, Content_Type=BATCH)
    assert f"event 2 is no CloudEvent (it: {name} is missing" in refused(answer, 400, "bad-body")
    assert running.count("ce-bad") == 0


# --- topics of other systems (case 21) -----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "topic"),
    [
        ("Orders", "orders"),
        ("home%2Fkitchen%2Ftemp", "home.kitchen.temp"),
        ("Home/Kitchen/temp", "home.kitchen.temp"),
        ("my%20topic", "my_topic"),
        ("k%C3%BCche", "kuche"),
        ("_internal", "internal"),
        ("sensor@42", "sensor_42"),
    ],
)
def test_a_topic_of_another_system_is_mapped_on_request(running, path, topic):
    address = f"/v1/topics/{path}/messages"
    refused(running.client.post(address, content=b"x"), 400, "bad-topic")
    answer = running.client.post(f"{address}?map=topic", content=b"x", headers={"Prefer": "wait=9"})
    assert (answer.status_code, answer.json()["topic"]) == (201, topic)
    (row,) = running.query("SELECT * FROM messages WHERE id = ?", answer.json()["id"])
    assert row["topic"] == topic
    named = path.replace("%2F", "/").replace("%20", " ").replace("%C3%BC", "ü")
    assert json.loads(row["meta"])["topic"] == named


def test_a_topic_of_which_nothing_is_left_is_refused(running):
    for path in ("%2F%2F", "...", "a" * 101):
        refused(running.client.post(f"/v1/topics/{path}/messages?map=topic", content=b"x"), 400,
                "bad-topic")  # fmt: skip
    refused(running.publish("t", b"x", {"map": "no"}), 400, "bad-request")


def test_a_batch_of_thousands_of_events_is_stored_with_what_each_is(running):
    events = [
        b'{"specversion":"1.0","id":"%d","source":"/many","type":"t","data":%d}' % (n, n)
        for n in range(8000)
    ]
    body = b"[%b]" % b",".join(events)
    answer = running.publish(
        "many", body, Content_Type=BATCH, Prefer="wait=30", X_Request_Id="x" * 2000
    )
    assert (answer.status_code, answer.json()["count"]) == (201, 8000)
    (row,) = running.query(
        "SELECT count(DISTINCT meta ->> '$.cloudevent.id') AS ids, max(length(meta)) AS longest"
        " FROM messages WHERE topic = 'many' AND meta ->> '$.cloudevent.id' = body ->> '$.id'"
    )
    assert row["ids"] == 8000
    assert row["longest"] < 500  # thousands of times, the request's headers are left out
    assert running.publish("many", body, Content_Type=BATCH, Prefer="wait=30").status_code == 201
    assert running.count("many") == 8000
    assert running.query("SELECT * FROM dead_letters WHERE topic = 'many'") == []


def test_good_elements_and_events_are_kept_where_bad_ones_may_become_dead_letters(running):
    options = {"split": "array", "on-bad": "dead-letter"}
    long = b'"%b"' % (b"x" * 65536)
    said = running.publish("sift", b"[1, 1e999, %b, 4]" % long, options, Prefer="wait=9").json()
    assert (said["count"], said["dead"]["lines"]) == (2, [2, 3])
    assert said["dead"]["reasons"] == {"not-json": 1, "too-large": 1}
    good = b'{"specversion":"1.0","id":"%d","source":"/sift","type":"t"}'
    body = b'[{"id":"none"}, %b, 7, %b]' % (good % 1, good % 2)
    answer = running.publish(
        "sift", body, {"on-bad": "dead-letter"}, Content_Type=BATCH, Prefer="wait=9"
    )
    assert answer.status_code == 201
    assert answer.json()["dead"]["reasons"] == {"bad-event": 2}
    rows = running.wait_rows(4, "sift")
    assert [row["body"] for row in rows] == ["1", "4", (good % 1).decode(), (good % 2).decode()]
    assert [row["id"] for row in rows[2:]] == answer.json()["ids"]
    dead = running.query("SELECT reason, body FROM dead_letters WHERE topic = 'sift' ORDER BY seq")
    assert [tuple(row) for row in dead] == [
        ("not-json", b"1e999"), ("too-large", long), ("bad-event", b'{"id":"none"}'),
        ("bad-event", b"7"),
    ]  # fmt: skip
