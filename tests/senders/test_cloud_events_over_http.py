"""CloudEvents as the CNCF's library sends them, in the three modes of HTTP."""

import json
from itertools import count

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from load import wait_drained

pytestmark = pytest.mark.slow

NUMBERS = count(1)


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack()


@pytest.fixture
def topic():
    return f"events-{next(NUMBERS)}"


@pytest.fixture(params=["token", "inbox"])
def post(request, running, topic):
    """Sends a message of the library's, with a token or to an inbox address."""
    url = f"/v1/topics/{topic}/messages"
    headers = {}
    if request.param == "inbox":
        made = running.client.post("/v1/inboxes", json={"topic": topic})
        url = made.json()["address"]
        headers["Authorization"] = ""

    def send(message):
        answer = running.client.post(
            url, headers={**message.headers, **headers}, content=message.body
        )
        wait_drained(running)
        return answer

    return send


def cloud_event(number=1, data=None, **attributes):
    return CloudEvent(
        {
            "id": f"n-{number}",
            "source": "/shop/K\u00f6ln",
            "type": "com.example.order",
            "subject": "50 % off \u20ac",
            **attributes,
        },
        {"number": number} if data is None else data,
    )


def batch(*events):
    """The library can't make one; the specification says how."""
    texts = b",".join(to_structured_event(each).body for each in events)
    return HTTPMessage({"Content-Type": "application/cloudevents-batch+json"}, b"[%b]" % texts)


def stored(running, topic):
    return [(row["body"], json.loads(row["meta"])) for row in running.rows(topic)]


def test_binary_event_is_its_data_with_its_attributes_beside_it(running, topic, post):
    answer = post(to_binary_event(cloud_event(datacontenttype="application/json")))
    assert answer.status_code == 202, answer.text
    ((body, meta),) = stored(running, topic)
    assert json.loads(body) == {"number": 1}
    event = meta["cloudevent"]
    assert (event["id"], event["type"]) == ("n-1", "com.example.order")
    assert event["source"] == "/shop/K\u00f6ln"
    assert event["subject"] == "50 % off \u20ac"


def test_structured_event_is_stored_whole(running, topic, post):
    message = to_structured_event(cloud_event())
    assert post(message).status_code == 202
    ((body, meta),) = stored(running, topic)
    assert json.loads(body) == json.loads(message.body)
    assert meta["cloudevent"]["source"] == "/shop/K\u00f6ln"


def test_batch_of_events_is_one_row_each(running, topic, post):
    answer = post(batch(cloud_event(1), cloud_event(2), cloud_event(3)))
    assert answer.status_code == 202, answer.text
    rows = stored(running, topic)
    assert [json.loads(body)["data"]["number"] for body, _ in rows] == [1, 2, 3]
    assert [meta["cloudevent"]["id"] for _, meta in rows] == ["n-1", "n-2", "n-3"]


@pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
def test_event_that_is_sent_again_is_one_row(running, topic, post, mode):
    first, again = post(mode(cloud_event())), post(mode(cloud_event()))
    assert first.json()["id"] == again.json()["id"]
    assert again.is_success
    post(mode(cloud_event(2)))
    post(mode(cloud_event(1, source="/another")))
    assert len(stored(running, topic)) == 3


@pytest.mark.parametrize("mode", [to_binary_event, to_structured_event])
@pytest.mark.parametrize("missing", ["id", "source", "type", "specversion"])
def test_event_without_a_required_attribute_is_refused_and_named(
    running, topic, post, mode, missing
):
    message = mode(cloud_event())
    headers = {n: v for n, v in message.headers.items() if n.lower() != f"ce-{missing}"}
    body = message.body
    if mode is to_structured_event:
        members = json.loads(body)
        del members[missing]
        body = json.dumps(members).encode()
    answer = post(HTTPMessage(headers, body))
    assert answer.status_code == 400
    assert missing in answer.json()["detail"]
    assert stored(running, topic) == []


def test_binary_event_of_bytes_keeps_every_byte(running, topic, post):
    data = bytes(range(256))
    event = cloud_event(data=data, datacontenttype="application/octet-stream")
    assert post(to_binary_event(event)).status_code == 202
    ((body, _),) = stored(running, topic)
    assert body == data


def test_sender_that_asks_whether_it_may_send_events_is_allowed(running, topic):
    made = running.client.post("/v1/inboxes", json={"topic": topic}).json()
    asked = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
    answer = running.client.options(made["address"], headers=asked)
    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] in ("eventemitter.example.com", "*")
