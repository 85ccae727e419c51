"""Signing in to the console: tokens, links, sessions, forms from elsewhere, assets."""

import re

import pytest
from console_client import OWN, TOKEN, ConsoleClient

from appliance import config as configuration
from appliance.auth import sign_in as sign_in_module
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS
from appliance.auth.refusal_counts import Refusals
from appliance.auth.snapshot import hashed
from appliance.errors import InputError
from appliance.store.access_rows import Actor, SessionRow
from appliance.store.rows import Span
from appliance.store.sql import sessions

BY = Actor("administrator", "127.0.0.1")


@pytest.fixture
def console(tmp_path):
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    client = ConsoleClient(config)
    yield client
    client.close()


def cookie(answer):
    return answer.headers.get("Set-Cookie", "")


def test_a_page_leads_a_stranger_to_the_sign_in_page_and_back(console):
    answer = console.get("/console/help?x=1")
    assert answer.status_code == 200  # shows nothing of what is stored
    answer = console.get("/console/?a=b&c=d")
    assert answer.status_code == 303
    there = answer.headers["Location"]
    assert there == "/console/login?to=/console/%3Fa%3Db%26c%3Dd"
    fields = console.form(there)
    assert fields["to"] == "/console/?a=b&amp;c=d"
    answer = console.sign_in(to="/console/?a=b&c=d")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/console/?a=b&c=d")
    assert console.get("/console/").status_code == 200


@pytest.mark.parametrize(
    "to",
    [
        "https://elsewhere.example/",
        "//elsewhere.example/console/",
        "/console/../v1/backup\\",
        "/console/\\elsewhere",
        "/console/\r\nSet-Cookie: a=b",
        "/v1/backup",
        "/console/login",
        "/console/logout",
        "javascript:alert(1)",
        "",
    ],
)
def test_a_sign_in_leads_to_no_other_site(console, to):
    assert console.sign_in(to=to).headers["Location"] == "/console/"


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(console):
    given = cookie(console.sign_in())
    assert re.match(r"appliance_session=[\w-]{43}; ", given)
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(given.split("; "))
    assert "Secure" not in given
    fields = {"token": TOKEN, "to": "/console/"}
    answer = console.app.test_client().post(
        "/console/login", data=fields, headers=OWN, base_url="https://inbox.example"
    )
    given = cookie(answer)
    assert given.startswith("__Host-appliance_session=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Secure"} <= set(given.split("; "))
    assert "Domain" not in given


def test_the_store_has_hashes_of_a_session_only(console):
    secret = re.match(r"appliance_session=([\w-]+)", cookie(console.sign_in()))[1]
    (row,) = console.store.access.sessions()
    assert (row.digest, row.token) == (hashed(secret.encode()), hashed(TOKEN.encode()))
    assert secret not in repr(row)
    assert TOKEN not in repr(row)


def test_a_session_outlives_the_process_that_made_it(console, tmp_path):
    secret = re.match(r"appliance_session=([\w-]+)", cookie(console.sign_in()))[1]
    config = configuration.load({"APPLIANCE_DATA": str(tmp_path)})
    later = ConsoleClient(config)
    later.browser.set_cookie("appliance_session", secret)
    assert later.get("/console/").status_code == 200
    later.close()


def test_a_session_ends_with_its_token(console):
    _, token = console.services.tokens.create("reader", ["read"], BY)
    assert console.sign_in(token).status_code == 303
    assert "reader" in console.get("/console/").text
    console.services.tokens.revoke("reader", BY)
    assert console.get("/console/").status_code == 303
    answer = console.post("/console/logout", {"csrf": "x"})
    assert answer.status_code == 403  # a form that it could not have


def test_a_token_that_may_send_only_is_told_so(console):
    _, token = console.services.tokens.create("till", ["publish"], BY)
    console.sign_in(token)
    answer = console.get("/console/")
    assert answer.status_code == 403
    assert "Your token till may send, not read." in answer.text


def test_signing_out_ends_the_session_for_good(console):
    secret = re.match(r"appliance_session=([\w-]+)", cookie(console.sign_in()))[1]
    answer = console.post("/console/logout", console.form("/console/"))
    assert answer.status_code == 303
    assert "Expires=Thu, 01 Jan 1970" in cookie(answer)
    console.browser.set_cookie("appliance_session", secret)
    assert console.get("/console/").status_code == 303
    trail = [(each.who, each.action) for each in console.store.access.audit(Span(after=0), 9)]
    assert trail == [("administrator", "sign-in"), ("administrator", "sign-out")]


def test_wrong_tokens_are_counted_and_then_nothing_is_looked_at(console):
    for left in range(9, -1, -1):
        answer = console.sign_in("wrong")
        assert answer.status_code == 403
        word = "try" if left == 1 else "tries"
        assert f"{left} more {word}" in answer.text
    answer = console.sign_in(TOKEN)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 7
    seconds = answer.headers["Retry-After"]
    assert f"Too many wrong tokens came from your address. Wait {seconds} s." in answer.text
    assert console.authorizer.refusals.totals["unauthorized"] == 10


def test_tries_come_back_with_time():
    now = [0.0]
    tries = Refusals(lambda: now[0], at_once=2, per_second=0.5)
    assert (tries.left("a"), tries.wait("a")) == (2, 0)
    assert not tries.note("a", "unauthorized")
    assert not tries.note("a", "unauthorized")
    assert tries.note("a", "unauthorized")
    assert (tries.left("a"), tries.wait("a"), tries.wait("b")) == (0, 2.0, 0)
    now[0] = 2.0
    assert (tries.left("a"), tries.wait("a")) == (1, 0)
    now[0] = 1000.0
    assert tries.left("a") == 2


def test_a_link_signs_in_once(console):
    code = console.services.sign_in.make_link(ADMINISTRATOR)
    fields = console.form("/console/login") | {"code": code}
    assert console.post("/console/login", fields).status_code == 303
    assert console.get("/console/").status_code == 200
    again = ConsoleClient.form(console, "/console/") | {"code": code, "to": "/console/"}
    answer = console.post("/console/login", again)
    assert answer.status_code == 403
    assert "older than a minute" in answer.text


def test_a_link_ends_after_a_minute_and_with_its_token(console, monkeypatch):
    desk = console.services.sign_in
    code = desk.make_link(ADMINISTRATOR)
    later = sign_in_module.time.monotonic() + 61
    with monkeypatch.context() as patched:
        patched.setattr(sign_in_module.time, "time", lambda: later)
        assert desk.with_link(code, "127.0.0.1", "") is None
    _, token = console.services.tokens.create("reader", ["read"], BY)
    code = desk.make_link(console.authorizer.principal(b"Bearer " + token.encode()))
    console.services.tokens.revoke("reader", BY)
    assert desk.with_link(code, "127.0.0.1", "") is None
    with pytest.raises(InputError, match="token"):
        desk.make_link(ANONYMOUS)


def test_links_are_bounded(console):
    desk = console.services.sign_in
    first = desk.make_link(ADMINISTRATOR)
    for _ in range(200):
        desk.make_link(ADMINISTRATOR)
    assert len(list(desk._links.iterdir())) == 100
    assert desk.with_link(first, "127.0.0.1", "") is None


def test_sessions_are_bounded_and_the_longest_unused_goes(console, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    secrets = [console.services.sign_in.with_token(TOKEN, "a", "b" * 999) for _ in range(4)]
    assert all(secrets)
    rows = console.store.access.sessions()
    assert len(rows) == 3
    assert all(len(row.agent) == 200 for row in rows)


def test_an_idle_session_ends_and_a_used_one_goes_on(console):
    access, now = console.store.access, "2026-01-01T00:00:00.000Z"
    long_ago = SessionRow(b"d" * 32, hashed(TOKEN.encode()), "x", "", "", now, now, now)
    access.create_session(long_ago, sign_in_module.Deed(BY, "sign-in", "x"))
    console.services.refresher.refresh()
    assert not console.authorizer.snapshot.sessions
    soon = sign_in_module.timestamps.timestamp(sign_in_module.time.time() + 60)
    secret = "s" * 43
    row = long_ago._replace(digest=hashed(secret.encode()), expires_at=soon)
    access.create_session(row, sign_in_module.Deed(BY, "sign-in", "x"))
    console.services.refresher.refresh()
    console.browser.set_cookie("appliance_session", secret)
    assert console.get("/console/").status_code == 200
    console.services.refresher._note()
    (kept,) = [each for each in access.sessions() if each.digest == row.digest]
    assert kept.expires_at > soon
    assert kept.last_used_at > now
    assert console.authorizer.take_extensions() == {}


FORGED = [
    {},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FORGED, ids=str)
def test_a_form_from_elsewhere_changes_nothing(console, headers):
    console.sign_in()
    fields = console.form("/console/")
    for path in ("/console/logout", "/console/login", "/console/preferences"):
        answer = console.post(path, fields, headers=headers)
        assert answer.status_code == 403
        assert "did not come from a page of this console" in answer.text
    assert console.get("/console/").status_code == 200


def test_a_form_without_its_token_changes_nothing(console):
    console.sign_in()
    for fields in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "\xff"}):
        assert console.post("/console/logout", fields).status_code == 403
    assert console.get("/console/").status_code == 200


def test_a_form_of_our_own_counts_by_its_origin_without_encryption(console):
    fields = console.form("/console/login") | {"token": TOKEN}
    answer = console.post("/console/login", fields, headers={"Origin": "http://localhost"})
    assert answer.status_code == 303


ADDRESSES = [
    "/console/",
    "/console",
    "/console/login",
    "/console/help",
    "/console/nothing/here",
    "/console/static/console.css",
    "/console/static/../../app.py",
    "/console/static/nothing.js",
    "/console/icon/3.svg",
    "/console/%00",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_every_answer_tells_browsers_to_run_our_scripts_only(console, method):
    for path in (*ADDRESSES, None, *ADDRESSES):
        if path is None:
            console.sign_in()
            continue
        answer = console.browser.open(path, method=method)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; " in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        if "static" not in path and "icon" not in path:
            assert answer.headers["Cache-Control"] == "no-store"


def test_errors_are_pages_in_words(console):
    for path, method, status in [
        ("/console/nothing", "GET", 404),
        ("/console/login", "DELETE", 405),
    ]:
        answer = console.browser.open(path, method=method)
        assert answer.status_code == status
        assert answer.content_type == "text/html; charset=utf-8"
        assert f"Error {status}" in answer.text
    assert console.browser.delete("/console/login").headers["Allow"] == "GET, HEAD, POST"


def test_a_fault_of_a_page_is_a_page(console, monkeypatch):
    console.sign_in()
    monkeypatch.setattr(type(console.services.reader), "totals", lambda *_: 1 / 0)
    answer = console.get("/console/")
    assert answer.status_code == 500
    assert "division" not in answer.text


def test_an_asset_is_kept_for_ever_under_the_address_of_its_content(console):
    page = console.get("/console/login").text
    found = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', page)
    assert len(found) == 4
    for url in found:
        answer = console.get(url)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert console.get(found[0] + "0").headers["Cache-Control"] == "no-cache"


HOSTILE_HOSTS = [
    *("", "<script>alert(1)</script>", "a\"onload='x'", "a&b", "a';rm -rf ~;'", "$(id)", "`id`"),
    *("a b", "a/b", "user@a", "\xff", "K\u212a.example".encode().decode("latin-1"), "a." * 200),
    *("a:123456", "a:b", "[::1", "[x]", "[::1]x", "a\\", "{{ config }}", "a,b", "%0a", "a#b"),
]


def test_a_page_never_shows_a_hostile_host(console):
    for host in HOSTILE_HOSTS:
        text = console.get("/console/login", headers={"Host": host}).text
        assert "http://localhost:8080<" in text, host
        if len(host) > 3:
            assert host not in text


def test_a_page_names_the_address_that_was_asked(console):
    for base, shown in [
        ("http://inbox.example:81", "http://inbox.example:81"),
        ("https://inbox.example", "https://inbox.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ]:
        assert f"{shown}<" in console.get("/console/login", base_url=base).text


def test_preferences_are_kept_by_the_browser(console):
    fields = {"time": "local", "keys": "off", "dense": "on", "other": "x"}
    assert console.post("/console/preferences", fields).status_code == 303
    text = console.get("/console/help").text
    assert 'class="dense" data-time="local" data-keys="off"' in " ".join(text.split())
    console.post("/console/preferences", {"time": "<b>"})
    assert 'data-time="local"' in console.get("/console/help").text


def test_preferences_are_kept_below_the_prefix_of_a_proxy(console):
    answer = console.post(
        "/console/preferences", {"time": "local"}, environ_overrides={"SCRIPT_NAME": "/inbox"}
    )
    cookies = answer.headers.getlist("Set-Cookie")
    assert cookies != []
    assert all("; Path=/inbox/console" in cookie for cookie in cookies)
