"""Bodies of strangers, made at random: each is stored or refused, and none is lost."""

import gzip
import json
import random
import zlib

import httpx
import pytest
from harness import wait_until

#: What the answers to a body can be.
ANSWERS = {202, 400, 413, 415}
TYPES = [
    None, "text/plain", "text/plain; charset=latin1", "text/plain; charset=utf-16",
    "application/json", "application/x-ndjson", "application/jsonl; charset=x",
    "application/json-seq", "multipart/form-data; boundary=x", "multipart/form-data",
    "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=sjis",
    "application/cloudevents+json", "application/cloudevents-batch+json",
    "application/cloudevents+xml", "image/png", 'x; boundary="\\', ";charset=utf-8",
]  # fmt: skip
CODINGS = [None, None, None, "gzip", "deflate", "gzip, deflate", "identity", "br"]
QUERIES = ["", "", "?split=lines", "?split=ndjson", "?split=array", "?map=topic",
           "?split=lines&on-bad=dead-letter", "?split=array&on-bad=dead-letter",
           "?on-bad=dead-letter"]  # fmt: skip
EVENT = b'{"specversion":"1.0","id":"%d","source":"s","type":"t","data":%d}'


def body(chance):
    event = EVENT % (chance.randrange(30), chance.randrange(3))
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n%b\r\n'
    words = [
        b"", b"x", b"a=1&b=%C3", b"a=%ff", b"[1,2]", b"[", b'{"a":1}\n{"b":\n', b"\x1e1\n\x1e2\n",
        event, b"[%b,%b]" % (event, event), b"[%b,1]" % event, event[:40], b"\xff\xfe\x00",
        "ö\n".encode("utf-16"), b"caf\xe9", b"\0" * 50, b"[" * 3000, b'"\\ud800"', b"1e999",
        part % b"x" + b"--x--", part % b"x", b"--x--", part.replace(b"filename", b"q") % b"\xff",
        chance.randbytes(chance.randrange(60)), b"a\n" * 300, b"[" + b"1," * 300 + b"1]",
    ]  # fmt: skip
    return b"".join(chance.choices(words, k=chance.choice([1, 1, 1, 2, 3])))


def packed(chance, data, coding):
    if coding is None or chance.random() < 0.1:
        return data
    for each in coding.split(", "):
        data = {"gzip": gzip.compress, "deflate": zlib.compress}.get(each, bytes)(data)
    return data if chance.random() < 0.8 else data[: chance.randrange(len(data) + 1)]


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack(max_message_bytes=2000, max_request_bytes=4000, max_batch_messages=200)


def made_inbox(running, topic):
    answer = running.client.post("/v1/inboxes", json={"topic": topic, "kind": "open"})
    assert answer.status_code == 201, answer.text
    return httpx.URL(answer.json()["address"]).path


@pytest.mark.parametrize("door", ["topic", "inbox"])
def test_bodies_made_at_random_are_stored_or_refused_and_none_is_lost(running, door):
    chance = random.Random(door)
    name = f"hostile-{door}"
    address = made_inbox(running, name) if door == "inbox" else f"/v1/topics/{name}/messages"
    ids, dead, seen = set(), 0, set()
    for _ in range(1500):
        coding = chance.choice(CODINGS)
        headers = {}
        if kind := chance.choice(TYPES):
            headers["content-type"] = kind
        if coding:
            headers["content-encoding"] = coding
        if chance.random() < 0.1:
            headers |= {"ce-id": "%41%ff"[: chance.randrange(7)], "ce-specversion": "1.0"}
        if chance.random() < 0.1:
            headers |= {"ce-id": "1", "ce-specversion": "1.0", "ce-type": "t", "ce-source": "h"}
        sent = packed(chance, body(chance), coding)
        query = chance.choice(QUERIES)
        answer = running.client.post(address + query, content=sent, headers=headers)
        said = answer.json()
        assert answer.status_code in ANSWERS or (door, answer.status_code) == ("inbox", 200), (
            sent, headers, query, answer.text,
        )  # fmt: skip
        seen.add(answer.status_code)
        if answer.status_code < 300:
            ids |= {said["id"]} if "id" in said else set(said["ids"])
            dead += said.get("dead", {}).get("count", 0)
    assert seen >= ANSWERS
    assert len(ids) > 300
    wait_until(lambda: running.count(name) >= len(ids), "every message stored", 30)
    stored = {row["id"] for row in running.query("SELECT id FROM messages WHERE topic = ?", name)}
    assert stored == ids
    letters = running.query("SELECT reason FROM dead_letters WHERE topic = ?", name)
    assert sum(row["reason"] != "conflict" for row in letters) == dead
    metas = running.query("SELECT meta FROM messages WHERE topic = ? AND meta IS NOT NULL", name)
    assert all(isinstance(json.loads(row["meta"]), dict) for row in metas)
    assert not [line for line in running.logs(2000).splitlines() if "Traceback" in line]
