"""The gate: who gets in with a head, and which decisions are remembered."""

import contextlib
import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.api.bodies.plan import BodyPlan, Form
from appliance.api.gate import Gate
from appliance.api.http import head
from appliance.api.http.problems import Problem
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRoute
from appliance.api.known_heads import _MAX_HEADS
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.route import PublishRoute
from appliance.api.stream.hub import StreamHub
from appliance.api.stream.stream_route import StreamRoute
from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS, Principal, Right
from appliance.auth.snapshot import AccessSnapshot, hashed
from appliance.config import load
from appliance.model.grants import Rate
from appliance.model.tallies import StreamTally
from appliance.schemas.book import SchemaBook
from appliance.store.access_rows import AccessRows, InboxKey, InboxRow

MESSAGES = b"/v1/topics/a/messages"


class Keys(Authorizer):
    """An authorizer whose policy can change."""

    def __init__(self, token):
        super().__init__(token)
        self.is_loaded = True
        self.people = {b"Bearer t": ADMINISTRATOR}

    def principal(self, authorization):
        return self.people.get(authorization)


@pytest.fixture
def keys():
    return Keys("unused")


@pytest.fixture
def gate(keys):
    application = WsgiBridge(None, 1)
    open_addresses = OpenAddresses(application, application.ask)
    inboxes = InboxRoute(load({}), None, keys)
    publishing = PublishRoute(load({}), None, SchemaBook(lambda: keys.snapshot.schemas))
    streams = StreamRoute(StreamHub(256, None, keys, StreamTally()))
    return Gate(keys, open_addresses, publishing, inboxes, streams, application)


def bytes_of(*headers, method=b"POST", target=MESSAGES, token=b"t"):
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Authorization: Bearer " + token, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def decided(gate, *headers, **how):
    return gate.admit(head.parse(bytes_of(*headers, **how)))


@pytest.mark.parametrize(
    "target",
    [b"/", b"/healthz", b"/readyz", b"/readyz/intake", b"/openapi.json", b"/favicon.ico"],
)
def test_an_open_address_is_read_by_anyone_and_takes_no_body(gate, target):
    for method in (b"GET", b"HEAD"):
        admission = decided(gate, method=method, target=target, token=b"wrong")
        assert admission.principal is ANONYMOUS
        assert admission.max_body_bytes == 0
    assert decided(gate, target=target, token=b"wrong").status == 401


@pytest.mark.parametrize("target", [MESSAGES, b"/v1/topics", b"/v1/backup", b"/none", b"/healthz/"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS"])
def test_any_other_address_needs_a_token(gate, method, target):
    assert decided(gate, method=method, target=target, token=b"wrong").status == 401


def test_no_token_is_called_wrong_before_all_are_read(gate, keys):
    keys.is_loaded = False
    problem = decided(gate, token=b"wrong")
    assert (problem.status, problem.headers["Retry-After"]) == (503, "2")
    assert decided(gate).principal is ADMINISTRATOR


def test_a_request_to_publish_is_admitted_with_its_options(gate):
    admission = decided(
        gate,
        b"Content-Length: 7",
        b'Idempotency-Key: "k"',
        b"Prefer: wait=3",
        target=MESSAGES + b"?split=lines",
    )
    assert admission.principal is ADMINISTRATOR
    around = admission.details.around
    plan = BodyPlan(Form.LINES, 8 * 2**20, is_text=True)
    assert admission.details == PublishOptions("a", plan, "k", 3.0, around)
    assert not around.is_empty
    assert admission.max_body_bytes == 8 * 2**20


@pytest.mark.parametrize(
    ("headers", "how", "status"),
    [
        ([], {"target": b"/v1/topics/NO/messages"}, 400),
        ([], {"target": MESSAGES + b"?nope=1"}, 400),
        ([b"Idempotency-Key: two words"], {}, 400),
        ([b"Content-Encoding: br"], {}, 415),
        ([b"Content-Type: application/cloudevents+avro"], {}, 415),
        ([b"ce-id: 1"], {}, 400),
        ([b"Content-Length: 99999999"], {}, 413),
        ([b"Content-Length: " + b"9" * 18], {}, 413),
        ([], {"method": b"PATCH"}, 405),
    ],
)
def test_a_request_that_would_be_refused_is_refused_before_its_body(gate, headers, how, status):
    problem = decided(gate, *headers, **how)
    assert isinstance(problem, Problem)
    assert problem.status == status


@pytest.mark.parametrize(
    ("right", "allowed"),
    [
        (Right.PUBLISH, {(b"POST", MESSAGES)}),
        (Right.READ, {(b"GET", MESSAGES), (b"GET", b"/v1/topics")}),
        (Right.ADMIN, {(b"DELETE", b"/v1/dead-letters/1")}),
    ],
)
def test_a_principal_gets_what_its_rights_say(gate, keys, right, allowed):
    keys.people = {b"Bearer t": Principal("one", frozenset({right}), ("a",))}
    for method, target in [
        (b"POST", MESSAGES),
        (b"GET", MESSAGES),
        (b"GET", b"/v1/topics"),
        (b"DELETE", b"/v1/dead-letters/1"),
    ]:
        answer = decided(gate, method=method, target=target)
        if (method, target) in allowed:
            assert not isinstance(answer, Problem)
        else:
            assert (answer.status, answer.type.rpartition(":")[2]) == (403, "forbidden")


def test_a_principal_publishes_to_the_topics_of_its_patterns(gate, keys):
    keys.people = {b"Bearer t": Principal("one", frozenset({Right.PUBLISH}), ("a", "log.*"))}
    for topic, is_allowed in [("a", True), ("log.x", True), ("b", False), ("log", False)]:
        answer = decided(gate, target=f"/v1/topics/{topic}/messages".encode())
        assert isinstance(answer, Problem) is not is_allowed


def learn(gate, data):
    request_head = head.parse(data)
    gate.recall(data)
    gate.learn(data, request_head, gate.admit(request_head))


def test_a_decision_is_remembered_for_the_same_bytes_but_for_the_length(gate):
    data = bytes_of(b"Content-Length: 5")
    assert gate.recall(data) is None
    learn(gate, data)
    for length in (5, 6, 5, 0):
        request_head, admission = gate.recall(bytes_of(b"Content-Length: %d" % length))
        assert (request_head.length, admission.details.topic) == (length, "a")
        assert request_head.values[b"content-length"] == b"%d" % length
    for other in (
        bytes_of(b"content-length: 5"),
        bytes_of(b"Content-Length:  5"),
        bytes_of(b"Content-Length: +5"),
        bytes_of(b"Content-Length: "),
        bytes_of(b"Content-Length: 5", b"Content-Length: 5"),
        bytes_of(b"Content-Length: 5", b" 6"),
        bytes_of(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        bytes_of(),
        bytes_of(b"Content-Length: 5", token=b"T"),
        bytes_of(b"Content-Length: 5", target=b"/v1/topics/b/messages"),
        b"\r\n" + data,
        data[:-1],
    ):
        assert gate.recall(other) is None


def test_a_remembered_decision_asks_nobody_anything(gate, keys):
    data = bytes_of(b"Content-Length: 5")
    learn(gate, data)
    keys.principal = keys.holds = gate._buckets = None  # whoever asks them, fails
    for _ in range(3):
        assert gate.recall(data)[1].principal is ADMINISTRATOR


def test_a_decision_is_forgotten_when_the_policy_changes(gate, keys):
    data = bytes_of(b"Content-Length: 5")
    learn(gate, data)
    keys.people = {}
    keys.generation += 1
    assert gate.recall(data) is None
    assert decided(gate, b"Content-Length: 5").status == 401


def test_a_decision_of_an_older_policy_is_not_learnt(gate, keys):
    data = bytes_of(b"Content-Length: 5")
    request_head = head.parse(data)
    gate.recall(data)
    admission = gate.admit(request_head)
    keys.generation += 1
    gate.learn(data, request_head, admission)
    keys.generation -= 1
    assert gate.recall(data) is None


@pytest.mark.parametrize(
    "data",
    [
        bytes_of(b"Webhook-Id: 1"),  # it comes once
        bytes_of(b"Ce-Id: 1", b"Ce-Source: s", b"Ce-Type: t", b"Ce-Specversion: 1.0"),
        bytes_of(b'Idempotency-Key: "k"'),
        bytes_of(target=b"/v1/topics/orders/messages?delay=10m"),  # each is due at another time
        bytes_of(b"A: " + b"x" * 3000),
        bytes_of(method=b"GET"),  # Flask's, and rare
    ],
)
def test_some_decisions_are_not_worth_remembering(gate, data):
    learn(gate, data)
    assert gate.recall(data) is None


def test_no_more_decisions_are_remembered_than_there_is_room_for(gate):
    heads = [bytes_of(b"X: %d" % n, b"Content-Length: 1") for n in range(_MAX_HEADS + 10)]
    for data in heads:
        learn(gate, data)
    assert len(gate._known) == _MAX_HEADS
    assert gate.recall(heads[0]) is None
    assert gate.recall(heads[-1]) is not None
    for length in range(_MAX_HEADS + 10):
        assert gate.recall(bytes_of(b"X: 1000", b"Content-Length: %d" % length))
    assert len(gate._known) == _MAX_HEADS


def of_requests(*values):
    names = (b"Traceparent", b"idempotency-key", b"X-Request-Id", b"Content-Length")
    return bytes_of(*(b"%b: %b" % pair for pair in zip(names, values, strict=True)))


def test_requests_of_one_client_with_a_key_and_a_trace_are_decided_on_once(gate, keys):
    learn(gate, of_requests(b"00-1", b"first", b"r1", b"5"))
    keys.principal = keys.holds = None  # whoever asks them, fails
    for n in (2, 3):
        request_head, admission = gate.recall(of_requests(b"00-%d" % n, b"k%d" % n, b"r", b"77"))
        assert (request_head.length, admission.details.key) == (77, f"k{n}")
        meta = json.loads(admission.details.around.text("::1"))
        assert meta["headers"] == {
            "traceparent": f"00-{n}", "idempotency-key": f"k{n}", "x-request-id": "r",
        }  # fmt: skip
    assert len(gate._known) == 0  # none of them comes again
    assert gate.recall(of_requests(b"00-2", b'"k2"', b"r", b"77")) is None  # k2, in its quotes


def test_requests_of_an_inbox_have_each_its_own_trace(gate, keys):
    data = inbox_of(keys, "open")
    gate.recall(data)
    for number, is_known in [(1, False), (2, True)]:
        one = data % (b"Traceparent: 00-%d\r\n" % number)
        assert (gate.recall(one) is not None) is is_known
        if not is_known:
            learn(gate, one)
        meta = json.loads(gate.recall(one)[1].details.options.around.text("::1"))
        assert meta["headers"] == {"traceparent": f"00-{number}"}


#: Lines as they come, and as they do not; values with which a head is another one, or none.
NAMES = st.sampled_from([
    b"Content-Length", b"content-length", b"Idempotency-Key", b"idempotency-key", b"Traceparent",
    b"X-Request-ID", b"Webhook-Id", b"Transfer-Encoding", b"X-Other", b" ",
])  # fmt: skip
COLONS = st.sampled_from([b": "] * 8 + [b":", b":  ", b" : "])
VALUES = st.sampled_from([
    b"1", b"23", b"0", b"", b"k", b"other", b'"k"', b'"', b'""', b"two words", b"x\0", b"9" * 12,
    b"9" * 13, b"9" * 30, b"k" * 255, b"k" * 256, b"\xff", b"1 ", b"1\t", b"chunked",
    b"Content-Length: 3", b"1\r\nContent-Length: ",
])  # fmt: skip
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r\r\n"])
LINES = st.tuples(NAMES, COLONS, VALUES, ENDS)
#: A line takes another one's place, or another value.
CHANGES = st.tuples(st.integers(0, 3), VALUES | VALUES | LINES)
TARGETS = st.sampled_from([MESSAGES, MESSAGES, b"/in/secret"])


def shown(request_head, admission):
    """All that is known of a request from its head."""
    details = admission.details
    options = getattr(details, "options", details)
    return (
        {name: getattr(request_head, name) for name in head.Head.__slots__},
        admission.handler,
        admission.principal,
        admission.max_body_bytes,
        [getattr(options, f.name) for f in dataclasses.fields(options) if f.name != "around"],
        (options.around.content_type, options.around.text("::1", token="t")),
    )


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    target=TARGETS,
    lines=st.lists(LINES, max_size=4),
    changes=st.lists(CHANGES, max_size=6),
)
def test_a_head_that_is_recalled_is_parsed_and_decided_on_in_the_same_way(
    gate, keys, target, lines, changes
):
    inbox_of(keys, "open")
    begin = b"POST %b HTTP/1.1\r\nAuthorization: Bearer t\r\n" % target
    gate.recall(b"")
    for place, change in [(len(lines), b""), *changes]:
        if place < len(lines):
            name, colon, _, end = lines[place]
            lines[place] = (name, colon, change, end) if isinstance(change, bytes) else change
        data = b"".join([begin, *(part for line in lines for part in line), b"\r\n"])
        recalled = gate.recall(data)
        if recalled is not None:
            again = head.parse(data)
            assert shown(*recalled) == shown(again, gate.admit(again))
            continue
        with contextlib.suppress(head.HeadError):
            learnt = head.parse(data)
            admission = gate.admit(learnt)
            if not isinstance(admission, Problem):
                gate.learn(data, learnt, admission)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/inbox/v1/topics", "/v1/topics"),
        (b"/v1/topics", "/v1/topics"),
        (b"/inbox/", "/"),
        (b"/inbox", "/"),
        (b"/inbox/inbox/", "/inbox/"),
        (b"/inboxes", "/inboxes"),
    ],
)
def test_a_path_may_begin_with_the_prefix_of_our_own_address(keys, target, path):
    application = WsgiBridge(None, 1)
    open_addresses = OpenAddresses(application, application.ask)
    inboxes = InboxRoute(load({}), None, keys)
    route = PublishRoute(load({}), None, SchemaBook(lambda: keys.snapshot.schemas))
    streams = StreamRoute(StreamHub(256, None, keys, StreamTally()))
    gate = Gate(keys, open_addresses, route, inboxes, streams, application, prefix="/inbox")
    request_head = head.parse(bytes_of(method=b"GET", target=target))
    gate.admit(request_head)
    assert request_head.path == path


def inbox_of(keys, kind, secret="secret"):
    """Let the authorizer know an inbox; return the bytes of a head for it."""
    row = InboxRow("hook", "a", kind, {}, "2026-11-27T20:00:00.000Z")
    keys.put(
        AccessSnapshot.of(AccessRows(2, [], [InboxKey(hashed(secret.encode()), row, None)]), 0)
    )
    return b"POST /in/" + secret.encode() + b" HTTP/1.1\r\nContent-Length: 1\r\n%b\r\n"


@pytest.mark.parametrize(
    ("kind", "header", "is_remembered"),
    [
        ("open", b"", True),
        ("form", b"", True),
        ("open", b"X-GitHub-Delivery: 1\r\n", False),
        ("open", b"Idempotency-Key: 1\r\n", False),
        ("github", b"X-Hub-Signature-256: sha256=00\r\n", False),
    ],
)
def test_a_head_of_an_inbox_is_remembered_only_where_it_comes_again(
    gate, keys, kind, header, is_remembered
):
    data = inbox_of(keys, kind) % header
    request_head = head.parse(data)
    assert gate.recall(data) is None
    admission = gate.admit(request_head)
    assert admission.principal.name == "inbox hook"
    gate.learn(data, request_head, admission)
    assert (gate.recall(data) is not None) is is_remembered
    keys.put(AccessSnapshot.of(AccessRows(3, [], []), 0))
    assert gate.recall(data) is None
    assert gate.admit(head.parse(data)).status == 404


def test_an_inbox_is_not_said_to_be_unknown_before_all_are_read(gate, keys):
    keys.is_loaded = False
    answer = gate.admit(head.parse(b"POST /in/secret HTTP/1.1\r\nContent-Length: 1\r\n\r\n"))
    assert answer.status == 503
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/tokens",
        b"/v1/tokens/a",
        b"/v1/audit",
        b"/v1/backup",
        b"/v1/inboxes/a",
        b"/v1/endpoints",
        b"/v1/endpoints/a/deliveries",
        b"/v1/backups",
        b"/v1/backups/a.db",
        b"/v1/doctor",
        b"/v1/doors",
        b"/v1/verify",
        b"/v1/settings",
        b"/v1/logs/api",
        b"/v1/processes/api/restart",
    ],
)
def test_an_administrators_address_is_not_for_readers(gate, keys, target):
    keys.people = {b"Bearer t": Principal("one", frozenset({Right.READ, Right.PUBLISH}))}
    assert decided(gate, method=b"GET", target=target).status == 403
    keys.people = {b"Bearer t": ADMINISTRATOR}
    assert decided(gate, method=b"GET", target=target).principal is ADMINISTRATOR


def test_a_rate_is_used_up_by_each_request_whether_its_head_is_known_or_not(gate, keys):
    keys.people = {
        b"Bearer t": Principal("one", frozenset({Right.PUBLISH}), rate=Rate(4, 60)),
        b"Bearer u": Principal("two", frozenset({Right.PUBLISH})),
    }
    data = bytes_of(b"Content-Length: 5")
    learn(gate, data)  # the first of four
    assert gate.recall(data) is not None
    assert gate.recall(bytes_of(b"Content-Length: 6")) is not None
    assert not isinstance(decided(gate), Problem)
    assert gate.recall(data) is None
    problem = decided(gate)
    assert (problem.status, problem.headers["Retry-After"]) == (429, "15")
    assert decided(gate, token=b"u").principal.name == "two"


BASIC = b"Authorization: Basic dDp0"


@pytest.mark.parametrize(
    ("headers", "how", "is_refused"),
    [
        ([b"Origin: https://evil.example"], {}, True),
        ([b"Origin: null"], {}, True),
        ([b"Origin: https://inbox.example"], {}, False),
        ([], {}, False),
        ([b"Origin: https://evil.example"], {"method": b"GET"}, False),
        ([b"Origin: https://evil.example"], {"scheme": b"Bearer"}, False),
    ],
)
def test_a_page_of_another_site_cannot_use_the_browsers_password(
    gate, keys, headers, how, is_refused
):
    scheme, method = how.get("scheme", b"Basic"), how.get("method", b"POST")
    keys.people = {scheme + b" t": ADMINISTRATOR}
    lines = [method + b" " + MESSAGES + b" HTTP/1.1", b"Authorization: " + scheme + b" t"]
    data = b"\r\n".join([*lines, b"Host: inbox.example", *headers]) + b"\r\n\r\n"
    answer = gate.admit(head.parse(data))
    assert (isinstance(answer, Problem) and answer.status == 403) is is_refused


def refused(gate, address="192.0.2.1", **how):
    how = {"token": b"wrong", "method": b"GET", **how}
    return gate.admit(head.parse(bytes_of(**how)), lambda _: address)


def test_an_address_with_many_refusals_is_refused_slowly_and_served_with_a_right_token(gate):
    for _ in range(20):
        assert refused(gate).status == 401
    slow = refused(gate)
    assert slow.principal is ANONYMOUS
    assert slow.details.status == 401
    assert refused(gate, token=b"t").principal is ADMINISTRATOR
    assert refused(gate, address="192.0.2.2").status == 401


@pytest.mark.parametrize(
    ("header", "is_slow"),
    [
        (b"Content-Length: 5", True),
        (b"Content-Length: 99999", False),  # its connection is closed instead
        (b"Transfer-Encoding: chunked", False),
    ],
)
def test_a_slow_refusal_reads_a_small_body_only(gate, header, is_slow):
    for _ in range(20):
        refused(gate)
    answer = gate.admit(head.parse(bytes_of(header, token=b"wrong")), lambda _: "192.0.2.1")
    assert isinstance(answer, Problem) is not is_slow
    assert (answer.details if is_slow else answer).status == 401


def test_a_refusal_is_counted_by_its_reason(gate, keys):
    keys.people = {b"Bearer t": Principal("one", frozenset({Right.READ}))}
    refused(gate)
    refused(gate, token=b"t", target=b"/v1/audit")
    refused(gate, token=b"t", method=b"POST", target=b"/v1/topics/NO/messages")
    assert keys.refusals.totals == {"unauthorized": 1, "forbidden": 2}


def test_a_decision_holds_as_long_as_its_principal(gate, keys):
    admission = decided(gate)
    assert gate.holds(admission)
    admission.principal = Principal("gone", frozenset({Right.PUBLISH}))
    assert not gate.holds(admission)
