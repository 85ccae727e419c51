"""The gate and the console's cookie: it shows pages, and under /v1/ it only reads."""

import pytest

from appliance.api.gate import Gate
from appliance.api.http import head
from appliance.api.http.problems import Problem
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRoute
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.route import PublishRoute
from appliance.api.stream.hub import StreamHub
from appliance.api.stream.stream_route import StreamRoute
from appliance.auth.authorizer import Authorizer
from appliance.auth.form_token import form_token
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS
from appliance.auth.snapshot import AccessSnapshot, hashed
from appliance.config import load
from appliance.model.tallies import StreamTally
from appliance.schemas.book import SchemaBook
from appliance.store.access_rows import AccessRows, SessionRow, TokenKey, TokenRow

TIME = "2026-01-02T03:04:05.678Z"
LATER = "2999-01-02T03:04:05.678Z"
SECRET = "s" * 43
COOKIE = b"Cookie: a=b; appliance_session=" + SECRET.encode() + b"; c=d"


def rows(token="t" * 32, expires_at=LATER, tokens=()):
    session = SessionRow(
        hashed(SECRET.encode()), hashed(token.encode()), "x", "", "", TIME, expires_at, TIME
    )
    return AccessRows(1, list(tokens), [], [], [session])


@pytest.fixture
def keys():
    keys = Authorizer("t" * 32)
    keys.put(AccessSnapshot.of(rows(), 1e9))
    return keys


@pytest.fixture
def gate(keys):
    strangers, application = WsgiBridge(None, 1), WsgiBridge(None, 1)
    config = load({})
    made = Gate(
        keys,
        OpenAddresses(strangers, strangers.ask),
        PublishRoute(config, None, SchemaBook(lambda: keys.snapshot.schemas)),
        InboxRoute(config, None, keys),
        StreamRoute(StreamHub(256, None, keys, StreamTally())),
        application,
    )
    made.strangers, made.application = strangers, application
    return made


def ask(gate, target, *headers, method=b"GET"):
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: a", *headers]
    return gate.admit(head.parse(b"\r\n".join(lines) + b"\r\n\r\n"))


@pytest.mark.parametrize("target", [b"/console", b"/console/", b"/console/x?y=z"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_page_is_for_who_the_cookie_says_and_a_stranger_has_a_thread_apart(gate, target, method):
    admission = ask(gate, target, COOKIE, method=method)
    assert (admission.principal, admission.handler) == (ADMINISTRATOR, gate.application)
    for headers in ((), (b"Cookie: appliance_session=wrong",), (b"Cookie: ;=;;",)):
        admission = ask(gate, target, *headers, method=method)
        assert (admission.principal, admission.handler) == (ANONYMOUS, gate.strangers)
        assert admission.max_body_bytes == 4096


def test_an_address_that_only_begins_like_the_console_is_not_open(gate):
    assert ask(gate, b"/consoles", COOKIE).status == 401


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/stream",
        b"/v1/topics/a/stream?after=0",
        b"/v1/messages?q=x",
        b"/v1/topics/a/messages?format=csv",
        b"/v1/dead-letters",
    ],
)
def test_the_cookie_reads_for_our_own_pages(gate, target):
    for site in ((), (b"Sec-Fetch-Site: same-origin",), (b"Sec-Fetch-Site: none",)):
        assert ask(gate, target, COOKIE, *site).principal == ADMINISTRATOR
    for site in (b"cross-site", b"same-site", b"x"):
        assert ask(gate, target, COOKIE, b"Sec-Fetch-Site: " + site).status == 401


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"POST", b"/v1/topics/a/messages"),
        (b"PUT", b"/v1/topics/a/messages"),
        (b"DELETE", b"/v1/dead-letters/1"),
        (b"POST", b"/v1/dead-letters/1/redrive"),
        (b"POST", b"/v1/tokens"),
        (b"POST", b"/v1/login-links"),
        (b"GET", b"/v1/backup"),
        (b"GET", b"/v1/tokens"),
        (b"GET", b"/v1/messages/x/body"),
        (b"DELETE", b"/v1/topics/a/messages"),
    ],
)
def test_the_cookie_counts_for_nothing_else_under_v1(gate, method, target):
    own = b"Sec-Fetch-Site: same-origin"
    answer = ask(gate, target, COOKIE, own, b"Content-Length: 0", method=method)
    assert isinstance(answer, Problem)
    assert answer.status == 401


def test_a_page_without_a_session_makes_no_browser_ask_for_a_password(gate):
    wrong = b"Cookie: appliance_session=wrong"
    answer = ask(gate, b"/v1/stream", wrong, b"Sec-Fetch-Site: same-origin")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="appliance"')
    assert "Basic" in ask(gate, b"/v1/stream").headers["WWW-Authenticate"]


def test_a_token_counts_before_a_cookie(gate):
    wrong = b"Authorization: Bearer wrong"
    assert ask(gate, b"/v1/stream", COOKIE, wrong).status == 401


def test_a_session_counts_until_it_ends_or_its_token_does(gate, keys):
    keys.put(AccessSnapshot.of(rows(expires_at=TIME), 1.0))  # made before it ended
    assert ask(gate, b"/console/", COOKIE).principal == ANONYMOUS
    reader = TokenRow("r", ("read",), ("*",), None, TIME)
    key = TokenKey(hashed(b"reader"), reader)
    keys.put(AccessSnapshot.of(rows("reader", tokens=[key]), 1e9))
    assert ask(gate, b"/console/", COOKIE).principal.name == "r"
    assert ask(gate, b"/v1/stream", COOKIE).principal.name == "r"
    keys.put(AccessSnapshot.of(rows("reader"), 1e9))
    assert ask(gate, b"/console/", COOKIE).principal == ANONYMOUS


def test_the_cookie_that_came_over_tls_counts_before_the_other(gate):
    both = b"Cookie: appliance_session=wrong; __Host-appliance_session=" + SECRET.encode()
    assert ask(gate, b"/console/", both).principal == ADMINISTRATOR


def test_before_the_tokens_are_read_nobody_is_called_a_stranger(gate, keys):
    keys.is_loaded = False
    keys.snapshot = AccessSnapshot.of(AccessRows(0, [], []), 0.0)
    assert ask(gate, b"/console/", COOKIE).status == 503
    assert ask(gate, b"/v1/stream", COOKIE).status == 503


FORM = b"X-Appliance-Form: "
SEND = b"/v1/topics/a/messages"


def test_a_page_of_the_session_sends_messages_and_nothing_else(gate):
    own = FORM + form_token(SECRET.encode()).encode()
    length = b"Content-Length: 1"
    assert ask(gate, SEND, COOKIE, own, length, method=b"POST").principal == ADMINISTRATOR
    for target in (b"/v1/tokens", b"/v1/dead-letters/1/redrive", b"/v1/backups"):
        assert ask(gate, target, COOKIE, own, length, method=b"POST").status == 401


@pytest.mark.parametrize(
    "headers",
    [
        (COOKIE,),
        (COOKIE, FORM + b"wrong"),
        (COOKIE, FORM),
        (COOKIE, FORM + b"\xff" * 64),
        (FORM + form_token(SECRET.encode()).encode(),),
        (b"Cookie: appliance_session=wrong", FORM + form_token(b"wrong").encode()),
        (b"Authorization: Bearer wrong", COOKIE, FORM + form_token(SECRET.encode()).encode()),
    ],
)
def test_a_message_without_the_sessions_token_is_refused(gate, headers):
    answer = ask(gate, SEND, *headers, b"Content-Length: 1", method=b"POST")
    assert isinstance(answer, Problem)
    assert answer.status == 401


def test_a_session_that_only_reads_sends_nothing(gate, keys):
    reader = TokenRow("r", ("read",), ("*",), None, TIME)
    keys.put(AccessSnapshot.of(rows("reader", tokens=[TokenKey(hashed(b"reader"), reader)]), 1e9))
    own = FORM + form_token(SECRET.encode()).encode()
    assert ask(gate, SEND, COOKIE, own, b"Content-Length: 1", method=b"POST").status == 403
