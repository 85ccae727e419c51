"""A request's body becomes messages, as its head and its address say."""

import contextlib
import gzip
import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.api.bodies.charsets import MARKED
from appliance.api.bodies.decoding import Part, decode
from appliance.api.bodies.plan import Form, read_plan
from appliance.config.settings import load
from appliance.errors import (
    BodyError,
    EncodingError,
    InputError,
    TooLargeError,
)

CONFIG = load({"APPLIANCE_MAX_BATCH_MESSAGES": "1000"})
NDJSON_NAMES = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/json-lines",
    "application/x-json-lines",
    "application/x-json-stream",
    "application/stream+json",
    "application/x-ldjson",
    "application/nd-json",
    "application/vnd.example.log+ndjson",
    "text/x-ndjson",
    "text/jsonl",
    "Application/X-NDJSON; charset=utf-8",
    'application/jsonl;charset="UTF-8"',
]


def plan(content_type=None, *, split=None, is_inbox=False, config=CONFIG, **headers):
    pairs = [(name.replace("_", "-").encode(), v.encode()) for name, v in headers.items()]
    if content_type is not None:
        pairs.append((b"content-type", content_type.encode()))
    return read_plan(pairs, dict(pairs), config, split=split, is_inbox=is_inbox)


def is_plain(wanted, body):
    return wanted.is_plain and not (wanted.is_text and body[:1] in MARKED)


def taken(body, content_type=None, *, config=CONFIG, **options):
    return decode(plan(content_type, config=config, **options), body, config)


# --- as they are ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "text/plain",
        "text/plain; charset=x-user-defined",
        "application/x-www-form-urlencoded",
        "application/octet-stream; charset=utf-16",
        "image/jpeg",
        "application/x-protobuf",
        "application/vnd.fdo.journal",
        "application/msgpack",
        "multipart/mixed; boundary=x",
        "application/json-patch+json",
        "no media type at all",
        ";;;=,\xff",
    ],
)
@pytest.mark.parametrize("body", [b'{"a":1}', b"\xc3\x28", b"a=1&b=2", b"\0", b"line\nline\n"])
def test_a_body_stays_as_it_is_unless_its_head_says_something(content_type, body):
    wanted = plan(content_type)
    assert wanted.is_plain
    assert is_plain(wanted, body) or body == b"\0"  # which a byte order mark could begin with
    assert decode(wanted, body, CONFIG).bodies == [body]


def test_bytes_of_no_text_keep_what_looks_like_a_byte_order_mark():
    for content_type in (None, "application/octet-stream", "audio/mpeg", "image/x-icon"):
        body = b"\xff\xfe\x12\x34\x56"
        assert is_plain(plan(content_type), body)
        assert taken(body, content_type).bodies == [body]


def test_an_empty_body_is_refused():
    for content_type in (None, "application/x-ndjson", "text/plain; charset=utf-16"):
        with pytest.raises(BodyError):
            taken(b"", content_type)
    with pytest.raises(BodyError, match="empty"):
        taken(gzip.compress(b""), content_encoding="gzip")
    with pytest.raises(BodyError, match="empty"):
        taken(b"\xef\xbb\xbf", "text/plain")


# --- texts ---------------------------------------------------------------------------------------


def test_text_of_a_named_charset_becomes_utf8_and_says_what_it_was():
    (body,), common, parts = taken("Köln 21°C".encode("latin-1"), "text/plain; charset=ISO-8859-1")[
        :3
    ]
    assert (body.decode(), parts) == ("Köln 21°C", None)
    assert common == Part("text/plain; charset=utf-8", {"charset": "ISO-8859-1"})


def test_a_windows_file_is_read_as_text_where_the_head_says_that_it_is_text():
    body = '{"a":"ö"}'.encode("utf-16")
    assert not is_plain(plan("application/json"), body)
    decoded = taken(body, "application/json")
    assert decoded.bodies == ['{"a":"ö"}'.encode()]
    assert decoded.common == Part("application/json; charset=utf-8", {"charset": "utf-16-le"})


def test_lines_of_a_windows_file_are_whole_lines():
    body = "line one\r\nline two öä\r\n".encode("utf-16")
    for content_type in (None, "application/octet-stream", "text/plain"):
        decoded = taken(body, content_type, split="lines")
        assert decoded.bodies == [b"line one", "line two öä".encode()]


def test_a_charset_that_is_not_known_leaves_the_bytes_and_is_not_cut():
    assert taken(b"\xe9", "text/plain; charset=x-mine").bodies == [b"\xe9"]
    with pytest.raises(InputError, match="'x-mine' is not known"):
        plan("text/plain; charset=x-mine", split="lines")
    with pytest.raises(InputError, match="twice"):
        plan("text/plain; charset=utf-8; charset=latin1")


def test_text_that_grows_beyond_the_limit_as_utf8_is_refused():
    config = load({"APPLIANCE_MAX_MESSAGE_BYTES": "10"})
    with pytest.raises(TooLargeError, match="as UTF-8"):
        taken(b"\xe9" * 9, "text/plain; charset=latin1", config=config)
    with pytest.raises(TooLargeError, match="unpacked body has more than 10 bytes"):
        taken(gzip.compress(b"a" * 11), content_encoding="gzip", config=config)


# --- many messages -------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", NDJSON_NAMES)
def test_ndjson_is_known_by_all_its_names(content_type):
    assert taken(b'{"a":1}\n{"a":2}\r\n\n{"a":3}\n', content_type).bodies == [
        b'{"a":1}',
        b'{"a":2}',
        b'{"a":3}',
    ]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/ld+json", "application/json-patch+json", "text/json",
     "application/x-ndjsonx", "application/jsonlogic", "x/y"],
)  # fmt: skip
def test_names_that_only_look_like_ndjson_are_one_message(content_type):
    assert plan(content_type).form is Form.WHOLE


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "a/b"])
def test_a_split_is_asked_for_by_the_address(content_type):
    assert taken(b"1\n2\n", content_type, split="lines").bodies == [b"1", b"2"]
    assert taken(b"1\n2\n", content_type, split="ndjson").bodies == [b"1", b"2"]
    with pytest.raises(BodyError, match="line 2 is not JSON"):
        taken(b"1\nx\n", content_type, split="ndjson")
    assert taken(b"[1,2]", content_type, split="array").bodies == [b"1", b"2"]
    with pytest.raises(InputError, match="split can be lines, ndjson, array"):
        plan(content_type, split="words")


@pytest.mark.parametrize(
    ("content_type", "split"),
    [
        ("application/x-ndjson", "array"),
        ("application/json-seq", "lines"),
        ("application/json-seq", "ndjson"),
        ("multipart/form-data; boundary=x", "lines"),
        ("application/cloudevents+json", "lines"),
        ("application/cloudevents-batch+json", "array"),
    ],
)
def test_a_split_that_contradicts_the_media_type_is_refused(content_type, split):
    with pytest.raises(InputError, match="contradicts the Content-Type"):
        plan(content_type, split=split)


def test_elements_of_an_array_stay_as_they_were_written():
    elements = [
        b'{"b":1, "a":  2}',
        b"123456789012345678901234567890",
        b"1.10",
        b'{"a":1,"a":2}',
        b'"\\u00e9 \xc3\xa9"',
        b"[[], {},\n null]",
        b"null",
        b'"[,]\\"{"',
    ]
    decoded = taken(b" [\n" + b" ,\r\n".join(elements) + b" ] \n", split="array")
    assert decoded.bodies == elements
    assert decoded.common.content_type == "application/json"
    assert taken(b"[]", split="array").bodies == []


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b'{"a":1}', BodyError, "no JSON array"),
        (b"[1,2", BodyError, "no JSON array"),
        (b"[1,2] x", BodyError, "no JSON array"),
        (b"[1,NaN]", BodyError, "no JSON array"),
        (b'["\xff"]', BodyError, "not UTF-8"),
        (b"1\n2\n", BodyError, "no JSON array"),
        (b'[1,"\\ud83d"]', BodyError, "JSON"),
        (b"[1,1e999]", BodyError, "element 2 is not JSON"),
        (b"[" * 100_000, BodyError, "no JSON array"),
        (b"[" * 5000 + b"]" * 5000, BodyError, "JSON"),
        (b"[" + b"1," * 1000 + b"1]", TooLargeError, "1001 messages"),
        (b"[" + b"1," * 2_000_000 + b"1]", TooLargeError, "more than 1000 messages"),
        (b'["' + b"a" * 2**20 + b'"]', TooLargeError, "element 1 is longer"),
    ],
)
def test_an_array_that_is_none_or_too_large_is_refused(body, error, words):
    with pytest.raises(error, match=words):
        taken(body, split="array")


def test_an_array_with_many_commas_inside_its_elements_is_taken():
    one = b'{"text":"' + b",]" * 100_000 + b'","list":[' + b"1," * 200_000 + b"1]}"
    assert taken(b"[" + b",".join([one] * 6) + b"]", split="array").bodies == [one] * 6


@pytest.mark.parametrize("name", ["application/json-seq", "application/geo+json-seq"])
def test_a_json_text_sequence_is_cut_at_its_separators(name):
    body = b'\x1e{"a":1}\n\x1e{\n"a":2}\n\x1e\x1e3\n'
    decoded = taken(body, name)
    assert decoded.bodies == [b'{"a":1}', b'{\n"a":2}', b"3"]
    assert decoded.common.content_type == "application/json"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a":1}\n', "begins with the byte 1E"),
        (b"\x1e1\n\x1e{", "text 2 is not JSON"),
        (b"\x1e1\n\x1e12", "text 2 is not JSON"),
    ],
)
def test_a_json_text_sequence_that_is_broken_is_refused(body, words):
    with pytest.raises(BodyError, match=words):
        taken(body, "application/json-seq")


def test_a_packed_batch_in_another_charset_is_unpacked_decoded_and_cut():
    body = gzip.compress('{"a":"é"}\n{"a":2}\n'.encode("utf-16"))
    decoded = taken(body, "application/x-ndjson", content_encoding="gzip")
    assert decoded.bodies == ['{"a":"é"}'.encode(), b'{"a":2}']


def test_every_coding_of_several_headers_is_undone():
    pairs = [(b"content-encoding", b"deflate"), (b"content-encoding", b"gzip")]
    assert read_plan(pairs, dict(pairs), CONFIG).codings == ("deflate", "gzip")
    with pytest.raises(EncodingError):
        plan(content_encoding="br")


# --- forms ---------------------------------------------------------------------------------------


def form(*parts, end=b"--x--\r\n"):
    return b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + end


FIELD = b'Content-Disposition: form-data; name="%s"\r\n\r\n%s'
FILE = (
    b'Content-Disposition: form-data; name="%s"; filename="%s"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n%s"
)


def test_a_form_with_files_is_its_fields_and_each_file():
    body = form(
        FIELD % (b"name", "Jürgen".encode()),
        FILE % (b"photo", "böse \x1b.jpg".encode(), b"\xff\xd8\r\n--y\r\n\0"),
        FIELD % (b"tag", b"a"),
        FIELD % (b"tag", b"b\r\nc"),
        FILE % (b"photo", b"two.jpg", b"2"),
        FILE % (b"none", b"", b""),
        FILE % (b"void", b"void.txt", b""),
    )
    bodies, _, parts = taken(body, 'multipart/form-data; boundary="x"')[:3]
    assert json.loads(bodies[0]) == {
        "name": "Jürgen",
        "tag": ["a", "b\r\nc"],
        "void": {"filename": "void.txt", "bytes": 0},
    }
    assert bodies[1:] == [b"\xff\xd8\r\n--y\r\n\0", b"2"]
    assert [part.content_type for part in parts] == ["application/json", "image/jpeg", "image/jpeg"]
    assert [part.members for part in parts] == [
        None,
        {"file": {"field": "photo", "name": "böse \x1b.jpg"}},
        {"file": {"field": "photo", "name": "two.jpg"}},
    ]


def test_a_form_of_one_file_is_one_message():
    bodies, _, parts = taken(
        form(FILE % (b"f", b"a.csv", b"1;2")), "multipart/form-data;boundary=x"
    )[:3]
    assert (bodies, len(parts)) == ([b"1;2"], 1)


def test_a_field_of_a_form_is_read_in_its_charset():
    body = form(FIELD % (b"_charset_", b"iso-8859-1"), FIELD % (b"a", b"caf\xe9"))
    (fields,), _, _ = taken(body, "multipart/form-data; boundary=x")[:3]
    assert json.loads(fields)["a"] == "café"
    own = (
        b'Content-Disposition: form-data; name="a"\r\nContent-Type: text/plain; charset=latin1\r\n'
    )
    (fields,), _, _ = taken(form(own + b"\r\ncaf\xe9"), "multipart/form-data; boundary=x")[:3]
    assert json.loads(fields) == {"a": "café"}
    with pytest.raises(BodyError, match="field 'a' is not utf-8"):
        taken(form(FIELD % (b"a", b"caf\xe9")), "multipart/form-data; boundary=x")


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (form(FIELD % (b"a", b"1")), "multipart/form-data", BodyError),
        (form(FIELD % (b"a", b"1")), "multipart/form-data; boundary=", BodyError),
        (form(FIELD % (b"a", b"1")), "multipart/form-data; boundary=" + "x" * 201, BodyError),
        (form(FIELD % (b"a", b"1")), "multipart/form-data; boundary=y", BodyError),
        (form(FIELD % (b"a", b"1"), end=b""), "multipart/form-data; boundary=x", BodyError),
        (form(), "multipart/form-data; boundary=x", BodyError),
        (form(FILE % (b"f", b"", b"")), "multipart/form-data; boundary=x", BodyError),
        (form(b"X: y\r\n\r\nz"), "multipart/form-data; boundary=x", BodyError),
        (form(b"\xff: y\r\n\r\nz"), "multipart/form-data; boundary=x", BodyError),
        (form(*[FIELD % (b"a", b"1")] * 1001), "multipart/form-data; boundary=x", TooLargeError),
        (form(b"A: " + b"b" * 200_000), "multipart/form-data; boundary=x", TooLargeError),
        (b"a" * 200_000, "multipart/form-data; boundary=x", BodyError),
        (form(FIELD % (b"a", b"1")) + b"a" * 200_000, "multipart/form-data; boundary=x", BodyError),
        (
            form(FILE % (b"f", b"a", b"b" * (2**20 + 1))),
            "multipart/form-data; boundary=x",
            TooLargeError,
        ),
        (form(FIELD % (b"a", b"b" * 2**20)), "multipart/form-data; boundary=x", TooLargeError),
    ],
)
def test_a_form_that_cant_be_read_or_is_too_large_is_refused(body, content_type, error):
    with pytest.raises(error):
        taken(body, content_type)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2&a=3", {"a": ["1", "2", "3"]}),
        (b"name=J%C3%BCrgen+M&x=", {"name": "Jürgen M", "x": ""}),
        (b"a[]=1&a[]=2", {"a[]": ["1", "2"]}),
        (b"payload=%7B%22a%22%3A1%7D", {"payload": '{"a":1}'}),
        (b"a=1&b", {"a": "1", "b": ""}),
        ("temp=21°C".encode(), {"temp": "21°C"}),
        (b"__proto__=x", {"__proto__": "x"}),
        (b"=1", {"": "1"}),
        (b"a=1\r\n", {"a": "1"}),
    ],
)
def test_a_form_at_an_inbox_is_a_json_object(body, fields):
    bodies, _, parts = taken(body, "application/x-www-form-urlencoded", is_inbox=True)[:3]
    assert orjson.loads(bodies[0]) == fields
    assert parts == [Part("application/json")]


@pytest.mark.parametrize("body", [b'{"a":"x=1"}', b"hello", b" [1]", b"<a b='c'/>", b"\0"])
def test_bytes_that_curl_calls_a_form_stay_as_they_are_at_an_inbox(body):
    assert taken(body, "application/x-www-form-urlencoded", is_inbox=True).bodies == [body]


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (b"_charset_=windows-1252&city=K%F6ln+%80", "K\u00f6ln \u20ac"),
        (b"city=K%F6ln&_charset_=iso-8859-1", "K\u00f6ln"),
        (b"_charset_=UTF-8&city=K%C3%B6ln", "K\u00f6ln"),
        (b"_charset_=&city=K%C3%B6ln", "K\u00f6ln"),
        (b"_charset_=no-such&city=K%C3%B6ln", "K\u00f6ln"),
    ],
)
def test_form_of_a_page_in_another_charset_is_read_as_the_browser_says(body, stored):
    (text,) = taken(body, "application/x-www-form-urlencoded", is_inbox=True).bodies
    assert json.loads(text)["city"] == stored


def test_a_form_at_an_inbox_is_read_in_its_charset_or_refused():
    name = "application/x-www-form-urlencoded; charset=iso-8859-1"
    (body,), _, _ = taken(b"a=caf%E9", name, is_inbox=True)[:3]
    assert json.loads(body) == {"a": "café"}
    with pytest.raises(BodyError, match="the form is not utf-8"):
        taken(b"a=caf%E9", "application/x-www-form-urlencoded", is_inbox=True)
    with pytest.raises(BodyError, match="1000 fields"):
        taken(b"a=1&" * 1001, "application/x-www-form-urlencoded", is_inbox=True)


# --- hostile -------------------------------------------------------------------------------------

HEADS = st.sampled_from(
    [
        *NDJSON_NAMES,
        "application/json-seq",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "text/plain; charset=shift_jis",
    ]
)
PIECES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [b"--x", b"\r\n", b"--x--", b"\n", b"Content-Disposition: form-data; name=a",
             b"; filename*=utf-8''%ff", b"[", b"]", b"{", b"}", b'"', b",", b"\\", b"\x1e", b"\0",
             b'"specversion":"1.0"', b'"id":', b'"source":"a"', b'"type":"t"', b"\xff\xfe", b"="],
        ),
    ),
    max_size=30,
).map(b"".join)  # fmt: skip


@given(HEADS, PIECES, st.sampled_from([None, "array", "lines", "ndjson"]), st.booleans())
@settings(max_examples=200)
def test_a_strangers_body_is_taken_or_refused(content_type, body, split, is_inbox):
    try:
        decoded = taken(body, content_type, split=split, is_inbox=is_inbox)
    except InputError:
        return
    assert decoded.parts is None or len(decoded.parts) == len(decoded.bodies)
    assert all(decoded.bodies)


@given(
    st.dictionaries(
        st.sampled_from(
            ["content-type", "content-encoding", "ce-id", "ce-type", "ce-source", "ce-specversion"]
        ),
        st.one_of(st.binary(max_size=30), st.sampled_from([b"gzip", b"1.0", b"a/b; charset=x"])),
    ),
    st.one_of(st.none(), st.text(max_size=8)),
)
@settings(max_examples=200)
def test_a_strangers_head_is_planned_or_refused(headers, split):
    values = {name.encode(): value for name, value in headers.items()}
    with contextlib.suppress(InputError):
        read_plan(list(values.items()), values, CONFIG, split=split)


def test_names_of_any_length_have_room_beside_a_message():
    """A meta has 8 KiB; what a stranger calls a thing must not break it."""
    long = "\x01é" * 2500
    part = f'Content-Disposition: form-data; name="{long}"; filename="{long}"\r\n\r\nx'.encode()
    decoded = taken(form(part), "multipart/form-data; boundary=x")
    members = json.dumps(decoded.parts[0].members)
    assert len(members) < 5000
    decoded = taken(b"a", f'text/plain; charset="latin1{" " * 9000}"')
    assert len(json.dumps(decoded.common.members)) < 100
