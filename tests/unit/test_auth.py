"""The authorizer finds principals; a principal has rights, for topics."""

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.auth.authorizer import Authorizer
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS, Principal, Right
from appliance.auth.refresher import AccessRefresher
from appliance.auth.snapshot import AccessSnapshot, hashed
from appliance.errors import InputError, StoreError
from appliance.model import grants
from appliance.store.access_rows import (
    AccessRows,
    InboxKey,
    InboxRow,
    SigningSecret,
    TokenKey,
    TokenRow,
)

NOW = 1_800_000_000.0
CREATED = "2026-01-02T03:04:05.678Z"


def at(seconds):
    return grants.timestamps.timestamp(NOW + seconds)


def token_key(secret, name="till", ends=None, **changes):
    row = TokenRow(name, ("publish",), ("orders.*",), None, CREATED, ends)
    return TokenKey(hashed(secret.encode()), row._replace(**changes))


def inbox_key(secret, name="hub", ends=None, signing=()):
    row = InboxRow(name, "orders", "github", {"n": 1}, CREATED, None, 1, tuple(signing))
    return InboxKey(hashed(secret.encode()), row, ends)


def snapshot(*keys, now=NOW, version=1):
    tokens = [key for key in keys if isinstance(key, TokenKey)]
    inboxes = [key for key in keys if isinstance(key, InboxKey)]
    return AccessSnapshot.of(AccessRows(version, tokens, inboxes), now)


def basic(text):
    return b"Basic " + base64.b64encode(text.encode())


@pytest.fixture
def authorizer():
    return Authorizer("t")


@pytest.mark.parametrize("value", [b"Bearer t", b"bearer t", b"BEARER  t "])
def test_the_token_stands_for_the_administrator(value):
    assert Authorizer("t").principal(value) is ADMINISTRATOR


@pytest.mark.parametrize(
    "value",
    [None, b"", b"Bearer", b"Bearer ", b"Bearer T", b"Bearer tt", b"t", b"Basic t", b"\xff"],
)
def test_anything_else_stands_for_nobody(value):
    assert Authorizer("t").principal(value) is None


def test_the_administrator_may_do_everything_and_a_stranger_nothing():
    for right in Right:
        assert ADMINISTRATOR.may(right)
        assert ADMINISTRATOR.may(right, "any.topic")
        assert not ANONYMOUS.may(right)


def test_a_right_holds_for_the_topics_of_a_pattern():
    principal = Principal("till", frozenset({Right.PUBLISH}), ("orders.*", "hello"))
    assert principal.may(Right.PUBLISH)
    assert principal.may(Right.PUBLISH, "orders.new")
    assert principal.may(Right.PUBLISH, "hello")
    assert not principal.may(Right.PUBLISH, "orders")
    assert not principal.may(Right.PUBLISH, "hello.x")
    assert not principal.may(Right.READ, "hello")


@pytest.mark.parametrize(
    "scheme", [b"Bearer qa_1", b"bearer qa_1 ", basic(":qa_1"), basic("a:qa_1")]
)
def test_a_token_stands_for_its_principal_by_bearer_and_as_a_password(authorizer, scheme):
    assert authorizer.principal(scheme) is None
    authorizer.put(snapshot(token_key("qa_1")))
    found = authorizer.principal(scheme)
    assert found == Principal("till", frozenset({Right.PUBLISH}), ("orders.*",))
    assert authorizer.holds(found)
    authorizer.put(snapshot())
    assert authorizer.principal(scheme) is None
    assert not authorizer.holds(found)


def test_the_administrators_token_is_a_password_too(authorizer):
    assert authorizer.principal(basic("anyone:t")) is ADMINISTRATOR
    assert authorizer.principal(basic("a:b:t")) is None  # a password can hold a colon
    assert authorizer.holds(ADMINISTRATOR)


@pytest.mark.parametrize(
    "value",
    [
        b"Basic", b"Basic ", b"Basic t", b"Basic !!!!", basic("t"), basic("t:"), b"Basic \xff\xff",
        b"Digest t", b"Bearer " + b"t" * 3000, basic("a:" + "t" * 3000),
    ],
)  # fmt: skip
def test_credentials_that_are_malformed_stand_for_nobody(authorizer, value):
    assert authorizer.principal(value) is None


def test_a_token_counts_until_its_end(authorizer):
    taken = snapshot(token_key("a", "one", at(10)), token_key("b", "two", at(-1)))
    assert [each.name for each in taken.tokens.values()] == ["one"]
    assert taken.holds_at(NOW + 9.9)
    assert not taken.holds_at(NOW + 10)
    assert not taken.holds_at(NOW - 1)  # the clock went back


def test_an_inbox_is_found_by_each_secret_that_counts():
    secrets = [
        SigningSecret(1, "old", CREATED, at(-1)),
        SigningSecret(2, "older", CREATED, at(60)),
        SigningSecret(3, "new", CREATED),
    ]
    taken = snapshot(
        inbox_key("s1", ends=at(60), signing=secrets),
        inbox_key("s2", signing=secrets),
        inbox_key("s3", ends=at(-1), signing=secrets),
    )
    inbox = taken.inbox(b"s1")
    assert taken.inbox(b"s2") is inbox
    assert taken.inbox(b"s3") is None
    assert (inbox.topic, inbox.kind, inbox.settings["n"]) == ("orders", "github", 1)
    assert inbox.signing_secrets == ("new", "older")
    assert inbox.principal.may(Right.PUBLISH, "orders")
    assert not inbox.principal.may(Right.PUBLISH, "others")
    assert not inbox.principal.may(Right.READ)


@pytest.mark.parametrize(
    "changes", [{"rate": "many"}, {"rights": ("all",)}, {"expires_at": "never"}, {"topics": ()}]
)
def test_a_token_that_someone_broke_by_sql_may_do_nothing(authorizer, changes):
    authorizer.put(snapshot(token_key("a", **changes)))
    found = authorizer.principal(b"Bearer a")
    assert found is None or not found.may(Right.PUBLISH, "orders.new")


def test_a_use_is_noted_by_name_and_remembered_decisions_are_made_again(authorizer):
    authorizer.put(snapshot(token_key("a"), inbox_key("s")))
    generation = authorizer.generation
    assert authorizer.take_uses() == ({}, {})
    assert authorizer.generation == generation
    authorizer.principal(b"Bearer a")
    authorizer.principal(b"Bearer t")
    authorizer.inbox("s")
    authorizer.inbox("\udcff")
    tokens, inboxes = authorizer.take_uses()
    assert (list(tokens), list(inboxes)) == (["till"], ["hub"])
    assert authorizer.generation != generation


class Rows:
    """The reading half of the store's access, in memory."""

    def __init__(self, *keys):
        self.keys, self.reads, self.error = keys, 0, None

    def version(self):
        if self.error:
            raise self.error
        return len(self.keys)

    def rows(self):
        self.version()
        self.reads += 1
        return AccessRows(len(self.keys), list(self.keys), [])


def test_a_refresh_reads_only_what_has_changed_or_ended(authorizer, monkeypatch):
    rows = Rows(token_key("a", ends=at(10)))
    refresher = AccessRefresher(rows, authorizer)
    monkeypatch.setattr("appliance.auth.refresher.time.time", lambda: NOW)
    refresher.refresh()
    generation = authorizer.generation
    refresher.refresh()
    assert (rows.reads, authorizer.generation) == (1, generation)
    assert authorizer.principal(b"Bearer a")
    monkeypatch.setattr("appliance.auth.refresher.time.time", lambda: NOW + 11)
    refresher.refresh()
    assert authorizer.principal(b"Bearer a") is None
    assert authorizer.generation != generation
    rows.keys = (*rows.keys, token_key("b"))
    refresher.refresh()
    assert authorizer.principal(b"Bearer b")
    assert rows.reads == 3


def test_a_store_that_cannot_be_read_leaves_the_snapshot_as_it_was(authorizer):
    rows = Rows(token_key("a"))
    refresher = AccessRefresher(rows, authorizer)
    refresher.refresh()
    rows.error = StoreError("away")
    with pytest.raises(StoreError):
        refresher.refresh()
    refresher._look()
    assert authorizer.principal(b"Bearer a")


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, ".a", "Administrator", "anonymous", "é"])
def test_a_name_that_cannot_stand_for_someone_is_refused(name):
    with pytest.raises(InputError, match="name:"):
        grants.check_name(name)


def test_rights_are_words_and_the_administrators_includes_the_others():
    assert grants.check_rights(["read", "publish", "read"]) == ("publish", "read")
    assert grants.check_rights(["admin"]) == ("publish", "read", "admin")
    for wrong in ([], ["write"], ["publish", "Read"]):
        with pytest.raises(InputError, match="rights:"):
            grants.check_rights(wrong)


def test_topics_are_patterns_and_an_administrator_has_them_all():
    assert grants.check_patterns([], ["read"]) == ("*",)
    assert grants.check_patterns(["a", "b.*", "a"], ["read"]) == ("a", "b.*")
    assert grants.check_patterns([], grants.RIGHTS) == ("*",)
    for wrong in (["A"], [""], ["a?"], ["[a]"], ["a" * 101], [str(n) for n in range(101)]):
        with pytest.raises(InputError, match="topics:"):
            grants.check_patterns(wrong, ["read"])
    with pytest.raises(InputError, match="every topic"):
        grants.check_patterns(["a"], grants.RIGHTS)


def test_a_rate_is_requests_in_a_time():
    assert grants.rate("10/s") == (10, 1)
    assert grants.rate("5000/h") == (5000, 3600)
    for wrong in ("", "0/s", "10", "10/w", "1.5/s", "10 / s", "1" * 10 + "/s"):
        with pytest.raises(InputError, match="rate:"):
            grants.rate(wrong)


def test_an_end_is_a_span_or_a_time_to_come():
    assert grants.end("90d", 0.0) == "1970-04-01T00:00:00.000Z"
    assert grants.end("2027-01-31T12:00:00+01:00", 0.0) == "2027-01-31T11:00:00.000Z"
    assert grants.end("2027-01-31", 0.0) == "2027-01-31T00:00:00.000Z"
    for wrong in ("", "soon", "2027-13-01", "999999999w", "-5d"):
        with pytest.raises(InputError, match="expires: expected"):
            grants.end(wrong, 0.0)
    with pytest.raises(InputError, match="has passed"):
        grants.end("2020-01-01", NOW)


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda raw: b"Basic " + base64.b64encode(raw)),
        st.binary(max_size=300).map(lambda raw: b"Bearer " + raw),
    )
)
def test_no_credentials_that_anyone_makes_up_are_let_in_or_break_anything(value):
    known = Authorizer("0123456789abcdefghijklmnop")
    known.put(snapshot(token_key("qa_only")))
    assert known.principal(value) is None


@given(st.text(max_size=200))
def test_no_secret_that_anyone_makes_up_leads_to_an_inbox_or_breaks_anything(text):
    known = Authorizer("0123456789abcdefghijklmnop")
    known.put(snapshot(inbox_key("only" * 11)))
    assert known.inbox(text) is None
    assert known.inbox(text + "\ud800\udcff") is None


@given(st.text(max_size=100))
def test_a_wish_of_any_text_is_taken_or_refused_in_words(text):
    for check in (
        grants.check_name,
        lambda each: grants.check_rights([each]),
        lambda each: grants.check_patterns([each], ["read"]),
        grants.rate,
        lambda each: grants.end(each, NOW),
    ):
        with contextlib.suppress(InputError):
            assert check(text)
