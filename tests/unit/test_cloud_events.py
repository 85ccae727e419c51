"""CloudEvents 1.0.2 over HTTP, with the events that the CloudEvents library makes."""

import contextlib
import gzip
import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_binary,
    from_structured,
    to_binary,
    to_structured,
)
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.bodies.decoding import decode
from appliance.api.bodies.plan import Form, read_plan
from appliance.config.settings import load
from appliance.errors import BodyError, FormatError, InputError, TooLargeError

CONFIG = load({})
EVENT = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "A234-1234",
    "source": '/my context/ü€😀"%',
    "type": "com.example.some",
    "time": datetime(2026, 11, 27, 20, 0, tzinfo=UTC),
    "subject": 'a "quoted" 100% subject',
    "datacontenttype": "application/json",
    "comexample": "ü",
}


def taken(headers, body, split=None):
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return decode(read_plan(pairs, dict(pairs), CONFIG, split=split), body, CONFIG)


def event(**changes):
    members = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **changes}
    return {name: value for name, value in members.items() if value is not ...}


def binary(**changes):
    return {f"ce-{name}": value for name, value in event(**changes).items()}


def structured(members):
    (body,), _, (part,) = taken({"content-type": EVENT}, json.dumps(members).encode())[:3]
    return body, part


# --- what the library sends ----------------------------------------------------------------------


@pytest.mark.parametrize("data", [{"a": "é"}, "text", b"\0\xff\xfe"])
def test_an_event_of_the_library_in_the_binary_mode_is_its_data_and_attributes(data):
    kind = "application/json" if isinstance(data, dict) else "application/octet-stream"
    made = CloudEvent({**ATTRIBUTES, "datacontenttype": kind}, data)
    message = to_binary(made, JSONFormat())
    bodies, _, (part,) = taken(message.headers, message.body)[:3]
    assert bodies == [message.body]
    kept = part.members["cloudevent"]
    for name in ("specversion", "id", "source", "type", "subject", "comexample"):
        assert kept[name] == ATTRIBUTES[name]
    again = from_binary(HTTPMessage(message.headers, bodies[0]), JSONFormat(), CloudEvent)
    assert again.get_source() == kept["source"]


def test_an_event_of_the_library_in_the_structured_mode_stays_as_it_was_sent():
    message = to_structured(CloudEvent(ATTRIBUTES, {"a": [1, 2.50]}), JSONFormat())
    bodies, _, (part,) = taken(message.headers, message.body)[:3]
    assert bodies == [message.body]
    assert part.members["cloudevent"]["source"] == ATTRIBUTES["source"]
    assert part.members["cloudevent"]["comexample"] == "ü"
    assert from_structured(message, JSONFormat(), CloudEvent).get_id() == "A234-1234"


def test_an_event_has_the_same_key_in_every_mode():
    made = CloudEvent(ATTRIBUTES, {"a": 1})
    one, other = to_binary(made, JSONFormat()), to_structured(made, JSONFormat())
    keys = {
        taken(one.headers, one.body).parts[0].key,
        taken(other.headers, other.body).parts[0].key,
        taken({"content-type": BATCH}, b"[%b]" % other.body).parts[0].key,
    }
    assert keys == {'cloudevent ["/my context/ü€😀\\"%","A234-1234"]'}


def test_events_of_a_batch_are_messages_with_keys_of_their_own():
    events = [json.dumps(event(id=str(n), data={"n": n})).encode() for n in range(3)]
    bodies, _, parts = taken(
        {"content-type": BATCH + "; charset=UTF-8"}, b"[%b]" % b" , ".join(events)
    )[:3]
    assert bodies == events
    assert len({part.key for part in parts}) == 3
    assert {part.content_type for part in parts} == {EVENT}
    assert taken({"content-type": BATCH}, b"[]").bodies == []


# --- the key -------------------------------------------------------------------------------------


def test_source_and_id_make_the_key_together_and_no_header_can_be_equal_to_it():
    keys = {
        structured(event(source=source, id=name))[1].key
        for source, name in [("a", "bc"), ("ab", "c"), ('a","b', "c"), ("a", 'b","c'), ("b", "a")]
    }
    assert len(keys) == 5
    assert all(" " in key for key in keys)  # an Idempotency-Key has none


# --- what is missing -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_required_attribute_that_is_missing_is_named_and_never_made_up(name):
    with pytest.raises(InputError, match=f"ce-{name} is missing"):
        taken(binary(**{name: ...}), b"data")
    with pytest.raises(InputError, match=f"ce-{name} is no text, or empty"):
        taken(binary(**{name: ""}), b"data")
    for value, words in ((..., "missing"), (None, "missing"), ("", "empty"), (1, "no text")):
        with pytest.raises(BodyError, match=f"the event: {name} is .*{words}"):
            structured(event(**{name: value}))
        body = json.dumps([event(), event(**{name: value})]).encode()
        with pytest.raises(BodyError, match=rf"event 2 is no CloudEvent \(it: {name} is"):
            taken({"content-type": BATCH}, body)


@pytest.mark.parametrize("version", ["0.3", "1.1", "1"])
def test_another_version_is_refused(version):
    with pytest.raises(InputError, match=r"send 1\.0"):
        taken(binary(specversion=version), b"data")
    with pytest.raises(BodyError, match=r"send 1\.0"):
        structured(event(specversion=version))


def test_a_request_without_any_of_the_headers_is_no_event():
    assert taken({"ce-time": "now", "cexid": "1"}, b"x").parts is None


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("/a%20b", "/a b"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("%41", "A"),
        ("100%25", "100%"),
        ("%2525", "%25"),
        ("100% zz", "100% zz"),
        ('"a b"', "a b"),
        ('"a \\"b\\" %20"', 'a "b"  '),
        ('"', '"'),
        ("a+b", "a+b"),
        ("é".encode().decode("latin-1"), "é"),
    ],
)
def test_a_headers_value_is_unquoted_and_then_decoded_once(value, text):
    (part,) = taken(binary(source=value), b"data").parts
    assert part.members["cloudevent"]["source"] == text


@pytest.mark.parametrize("value", ["%C0%A0", "%ff", "%ED%A0%80", "\xe9"])
def test_a_headers_value_that_is_not_utf8_is_refused(value):
    with pytest.raises(InputError, match="ce-source is not UTF-8"):
        taken(binary(source=value), b"data")


def test_an_attribute_with_a_control_character_or_too_long_is_refused():
    for value in ("a%00b", "a%0Ab", "a%7F", "%C2%85"):
        with pytest.raises(InputError, match="control character"):
            taken(binary(id=value), b"data")
    with pytest.raises(InputError, match="more than 1024 bytes"):
        taken(binary(id="a" * 1023), b"data")
    with pytest.raises(BodyError, match="more than 1024 bytes"):
        structured(event(source="é" * 600))


def test_headers_that_contradict_each_other_are_refused():
    headers = binary() | {"content-type": "text/plain", "ce-datacontenttype": "text/xml"}
    with pytest.raises(InputError, match="contradicts the Content-Type"):
        taken(headers, b"x")
    with pytest.raises(InputError, match="an event is one message"):
        taken(binary(), b"x", split="lines")
    pairs = [(b"ce-id", b"1"), (b"ce-id", b"2")]
    with pytest.raises(InputError, match="ce-id comes twice"):
        read_plan(pairs, dict(pairs), CONFIG)


def test_an_event_of_any_data_is_one_message():
    for content_type in ("application/x-ndjson", "multipart/form-data; boundary=x", "text/csv"):
        decoded = taken(binary() | {"content-type": content_type}, b"1\n2\n")
        assert decoded.bodies == [b"1\n2\n"]
        assert decoded.parts[0].members["cloudevent"]["datacontenttype"] == content_type


def test_an_event_without_data_is_stored_in_the_structured_form():
    (body,), _, (part,) = taken(binary(subject="s"), b"")[:3]
    assert json.loads(body) == event(subject="s")
    assert part.content_type == EVENT


def test_the_data_of_an_event_is_unpacked_and_decoded():
    headers = binary() | {"content-type": "text/plain; charset=latin1", "content-encoding": "gzip"}
    (body,), _, (part,) = taken(headers, gzip.compress(b"caf\xe9"))[:3]
    assert body.decode() == "café"
    assert part.content_type == "text/plain; charset=utf-8"
    assert set(part.members) == {"cloudevent", "charset"}


# --- the JSON format -----------------------------------------------------------------------------


def test_data_in_base64_stays_in_the_event():
    body, _ = structured(event(data_base64="/w=="))
    assert json.loads(body)["data_base64"] == "/w=="


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"data": 1, "data_base64": "/w=="}, "both data and data_base64"),
        ({"data_base64": "x"}, "no base64"),
        ({"data_base64": "/w==\n"}, "no base64"),
        ({"data_base64": 1}, "no base64"),
    ],
)
def test_data_that_contradicts_itself_is_refused(members, words):
    with pytest.raises(BodyError, match=words):
        structured(event(**members))


def test_null_is_as_good_as_missing():
    _, part = structured(event(subject=None, data=None, data_base64=None))
    assert part.members["cloudevent"] == event()


@pytest.mark.parametrize(
    "body", [b"[]", b"1", b'"a"', b"", b"{", b"{}x", b'{"id":"\xff"}', b"{1:2}"]
)
def test_an_event_is_an_object(body):
    with pytest.raises(BodyError):
        taken({"content-type": EVENT}, body)


def test_an_event_can_have_a_thousand_members_and_any_data():
    data = list(range(5000))
    assert structured(event(data=data))[1].members["cloudevent"] == event()
    with pytest.raises(BodyError, match="1000 members"):
        structured(event() | {f"a{n}": 1 for n in range(2000)})


def test_extensions_are_kept_beside_the_event_as_far_as_they_fit():
    members = event(n=1, flag=True, long="x" * 2000, Odd="1", deep={"a": 1})
    _, part = structured(members | {f"e{n}": "x" * 500 for n in range(20)})
    kept = part.members["cloudevent"]
    assert kept["n"] == 1
    assert kept["flag"] is True
    assert not {"long", "Odd", "deep"} & set(kept)
    assert len(json.dumps(kept)) < 5000


@pytest.mark.parametrize("name", ["application/cloudevents", "application/cloudevents+avro",
                                  "application/cloudevents-batch+protobuf"])  # fmt: skip
def test_another_event_format_is_not_taken_for_data(name):
    with pytest.raises(FormatError, match=r"taken as application/cloudevents\+json"):
        taken({"content-type": name}, b"x")


def test_a_batch_with_a_large_event_is_refused():
    body = json.dumps([event(data="x" * 2**20)]).encode()
    with pytest.raises(TooLargeError, match="event 1 is longer"):
        taken({"content-type": BATCH}, body)


def test_the_media_types_are_known_in_any_case():
    values = {b"content-type": b"Application/CloudEvents+JSON; Charset=utf-8"}
    assert read_plan(list(values.items()), values, CONFIG).form is Form.EVENT


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "source", "type", "specversion", "data", "data_base64", "x"]
                ),
                inner,
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from([EVENT, BATCH]),
)
def test_a_strangers_json_is_an_event_or_refused(value, content_type):
    with contextlib.suppress(InputError):
        decoded = taken({"content-type": content_type}, json.dumps(value).encode())
        assert all(part.members["cloudevent"]["id"] for part in decoded.parts)
