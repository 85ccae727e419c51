"""Tokens, inbox addresses and the audit trail: kept as hashes, changed with an entry each."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from appliance.errors import ExistsError, LimitError
from appliance.store.access_rows import Actor, Deed, InboxRow, TokenRow
from appliance.store.rows import Span
from appliance.store.sql import access as access_module

TIME = "2026-01-02T03:04:05.678Z"
LATER = "2999-01-02T03:04:05.678Z"
PAST = "2020-01-02T03:04:05.678Z"
BY = Actor("administrator", "192.0.2.7")


def digest(text):
    return hashlib.sha256(text.encode()).digest()


def deed(action, target="x", details=""):
    return Deed(BY, action, target, details)


def token(name, **changes):
    row = TokenRow(name, ("publish",), ("orders.*",), "100/m", TIME, LATER)
    return row._replace(**changes)


def inbox(name, **settings):
    return InboxRow(name, "orders", "github", settings, TIME)


@pytest.fixture
def access(store):
    return store.access


def create(access, name, secret="s", signing=()):
    access.create_inbox(inbox(name), digest(name + secret), signing, deed("inbox-create", name))


def trail(access):
    return [(each.who, each.action, each.target) for each in access.audit(Span(after=0), 100)]


def test_a_token_is_listed_as_it_was_made_until_it_is_revoked(access):
    rows = [token("b"), token("a", rights=("read",), topics=("*",), rate=None, expires_at=None)]
    for row in rows:
        access.create_token(row, digest(row.name), deed("token-create", row.name))
    assert access.tokens() == rows[::-1]
    assert {key.digest: key.token for key in access.rows().tokens} == {
        digest(row.name): row for row in rows
    }
    assert access.revoke_token("b", deed("token-revoke", "b"))
    assert access.tokens() == rows[1:]
    assert not access.revoke_token("b", deed("token-revoke", "b"))
    assert trail(access) == [
        ("administrator", "token-create", "b"),
        ("administrator", "token-create", "a"),
        ("administrator", "token-revoke", "b"),
    ]


def test_a_name_that_is_taken_is_refused_and_nothing_is_written(access):
    access.create_token(token("a"), digest("a"), deed("token-create"))
    version = access.version()
    with pytest.raises(ExistsError, match="a already"):
        access.create_token(token("a"), digest("b"), deed("token-create"))
    assert (access.version(), len(trail(access))) == (version, 1)


def test_tokens_made_at_once_are_never_too_many(access, monkeypatch):
    monkeypatch.setattr(access_module, "MAX_NAMES", 3)

    def create_token(n):
        try:
            access.create_token(token(f"t{n}"), digest(str(n)), deed("token-create", str(n)))
        except LimitError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(create_token, range(8))) == 3
    assert len(access.tokens()) == len(trail(access)) == 3


def test_an_inbox_has_its_settings_and_its_senders_secrets(access):
    access.create_inbox(
        inbox("hub", header="x-sig", keep=["x-a"]), digest("s"), ["one", "two"], deed("c")
    )
    found = access.inbox("hub")
    assert found.settings == {"header": "x-sig", "keep": ["x-a"]}
    assert [each.secret for each in found.signing_secrets] == ["one", "two"]
    assert (found.topic, found.kind, found.addresses) == ("orders", "github", 1)
    assert access.inboxes() == [found]
    assert access.inbox("nub") is None
    (key,) = access.rows().inboxes
    assert (key.digest, key.inbox, key.expires_at) == (digest("s"), found, None)


def test_an_inbox_is_given_another_topic_kind_and_settings(access):
    create(access, "hub")
    assert access.update_inbox(
        InboxRow("hub", "sales", "open", {"n": 1}, TIME), deed("inbox-update", "hub")
    )
    found = access.inbox("hub")
    assert (found.topic, found.kind, found.settings) == ("sales", "open", {"n": 1})
    assert not access.update_inbox(inbox("nub"), deed("inbox-update", "nub"))


def test_a_rotated_inbox_has_both_secrets_until_the_old_one_ends(access):
    create(access, "hub", "old")
    assert access.rotate_inbox("hub", digest("new"), LATER, deed("inbox-rotate", "hub"))
    ends = {key.digest: key.expires_at for key in access.rows().inboxes}
    assert ends == {digest("hubold"): LATER, digest("new"): None}
    assert access.inbox("hub").addresses == 2
    assert access.rotate_inbox("hub", digest("newer"), PAST, deed("inbox-rotate", "hub"))
    ends = {key.digest: key.expires_at for key in access.rows().inboxes}
    assert ends == {digest("newer"): None}  # what has ended is removed
    assert not access.rotate_inbox("nub", digest("x"), LATER, deed("inbox-rotate", "nub"))


def test_a_revoked_inbox_leaves_no_secret_behind(access):
    create(access, "hub", signing=["one"])
    create(access, "tub", signing=["two"])
    assert access.revoke_inbox("hub", deed("inbox-revoke", "hub"))
    assert [key.inbox.name for key in access.rows().inboxes] == ["tub"]
    assert [each.secret for each in access.inbox("tub").signing_secrets] == ["two"]
    create(access, "hub", "again")
    assert access.inbox("hub").signing_secrets == ()
    assert not access.revoke_inbox("nub", deed("inbox-revoke", "nub"))


def test_a_signing_secret_is_added_and_removed_and_ends(access):
    create(access, "hub", signing=["one"])
    added = access.add_signing_secret("hub", "two", LATER, deed("inbox-secret-add", "hub"))
    one, two = access.inbox("hub").signing_secrets
    assert (one.secret, one.expires_at) == ("one", LATER)
    assert (two.id, two.secret, two.expires_at) == (added, "two", None)
    assert access.remove_signing_secret("hub", one.id, deed("inbox-secret-remove", "hub"))
    assert not access.remove_signing_secret("hub", one.id, deed("inbox-secret-remove", "hub"))
    assert access.add_signing_secret("hub", "three", None, deed("inbox-secret-add", "hub"))
    assert [each.expires_at for each in access.inbox("hub").signing_secrets] == [None, None]
    assert access.add_signing_secret("nub", "x", None, deed("inbox-secret-add", "nub")) is None


def test_an_inbox_has_a_bounded_number_of_secrets(access):
    create(access, "hub")
    for n in range(10):
        access.add_signing_secret("hub", str(n), None, deed("inbox-secret-add", "hub"))
    with pytest.raises(LimitError, match="10 secrets"):
        access.add_signing_secret("hub", "x", None, deed("inbox-secret-add", "hub"))
    with pytest.raises(LimitError):
        access.create_inbox(inbox("tub"), digest("t"), ["x"] * 11, deed("inbox-create", "tub"))
    for n in range(9):
        access.rotate_inbox("hub", digest(str(n)), LATER, deed("inbox-rotate", "hub"))
    with pytest.raises(LimitError):
        access.rotate_inbox("hub", digest("x"), LATER, deed("inbox-rotate", "hub"))


def test_the_version_is_another_one_after_every_change_but_not_after_a_use(access):
    versions = [access.version()]

    def changed():
        versions.append(access.version())
        return versions[-1] != versions[-2]

    access.create_token(token("a"), digest("a"), deed("token-create"))
    assert changed()
    create(access, "hub", signing=["one"])
    assert changed()
    access.update_inbox(inbox("hub", n=1), deed("inbox-update"))
    assert changed()
    access.rotate_inbox("hub", digest("new"), LATER, deed("inbox-rotate"))
    assert changed()
    number = access.add_signing_secret("hub", "two", None, deed("inbox-secret-add"))
    assert changed()
    access.remove_signing_secret("hub", number, deed("inbox-secret-remove"))
    assert changed()
    access.note_uses({"a": TIME}, {"hub": TIME})
    assert not changed()
    access.record(deed("backup"))
    assert not changed()
    access.revoke_inbox("hub", deed("inbox-revoke"))
    assert changed()
    access.revoke_token("a", deed("token-revoke"))
    assert changed()
    assert access.rows().version == access.version()


def test_the_last_use_is_noted_by_name(access):
    access.create_token(token("a"), digest("a"), deed("token-create"))
    create(access, "hub")
    access.note_uses({"a": TIME, "gone": TIME}, {"hub": LATER})
    assert access.tokens()[0].last_used_at == TIME
    assert access.inbox("hub").last_used_at == LATER


def test_the_audit_trail_is_read_from_either_end(access):
    for n in range(5):
        access.record(deed("backup", str(n), "12 bytes"))
    first = access.audit(Span(), 2)
    assert [each.target for each in first] == ["4", "3"]
    assert [each.target for each in access.audit(Span(before=first[-1].seq), 9)] == ["2", "1", "0"]
    assert [each.target for each in access.audit(Span(after=first[-1].seq), 9)] == ["4"]
    entry = first[0]
    assert (entry.who, entry.address, entry.action) == ("administrator", "192.0.2.7", "backup")
    assert entry.details == "12 bytes"
    assert entry.at > TIME


def test_the_audit_trail_takes_hostile_targets_and_bounds_them(access):
    access.record(deed("discard", "\udcff\0" + "x" * 1000))
    (entry,) = access.audit(Span(), 9)
    assert entry.target.startswith("\\udcff\\x00xxx")
    assert len(entry.target) == 300


def test_redrives_are_found_by_the_message_that_a_letter_became(access):
    one, other = "01a213ff-ecfd-7000-9b39-123500000000", "01a213ff-ecfd-7000-9b39-123500000001"
    for target, message in (("1", one), ("2", other), ("3", one)):
        access.record(deed("dead-letter-redrive", target, f"as message {message} of t"))
    access.record(deed("dead-letter-discard", "4", f"as message {one} of t"))
    assert [each.target for each in access.redrives(one, 9)] == ["3", "1"]
    assert [each.target for each in access.redrives(one, 1)] == ["3"]
    for hostile in ("", "%", one[:-1], f"{one} of", "' OR 1"):
        assert access.redrives(hostile, 9) == []
