"""Redrive: a dead letter's message is sent again, and is stored once."""

from dataclasses import replace

import pytest
from store_contents import letter, one

from appliance import config as configuration
from appliance.errors import RedriveError, RefusedError, TopicError
from appliance.model.contents import DeadEnvelope
from appliance.redrive import Redriver
from appliance.store import open_store
from appliance.store.access_rows import Actor
from appliance.store.rows import Choice, Span


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    store.migrate()
    yield store
    store.reader.close()


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    yield writer
    writer.close()


@pytest.fixture
def letters(store):
    return store.dead_letters


@pytest.fixture
def redriver(letters):
    sent = []
    config = configuration.load({"APPLIANCE_MAX_MESSAGE_BYTES": "10"})
    made = Redriver(config, letters, sent.append)
    made.sent = sent
    return made


def find(letters, **choice):
    return letters.page(Choice(**choice), 1).rows[0]


def test_a_redrive_that_is_repeated_is_the_same_message(writer, letters, redriver):
    writer.store([letter(b"one"), letter(b"two")])
    one, two = find(letters, after=0), find(letters)
    for _ in range(2):
        redriver.redrive(one)
    redriver.redrive(one, "elsewhere")
    redriver.redrive(two)
    first, again, elsewhere, other = redriver.sent
    assert first.id == again.id == elsewhere.id != other.id
    assert (first.topic, elsewhere.topic, first.body) == ("t", "elsewhere", b"one")
    assert letters.count(Choice()) == 0


def test_each_redrive_is_in_the_audit_trail_also_of_a_letter_that_is_gone(writer, letters, store):
    config = configuration.load({"APPLIANCE_MAX_MESSAGE_BYTES": "10"})
    redriver = Redriver(config, letters, lambda _: None, store.access.record)
    writer.store([letter(b"one")])
    one = find(letters)
    for _ in range(2):
        redriver.redrive(one, "elsewhere", Actor("anna", "192.0.2.7"))
    entries = store.access.audit(Span(), 9)
    assert [(e.who, e.action, e.target) for e in entries] == [
        ("anna", "dead-letter-redrive", str(one.seq))
    ] * 2
    assert entries[0].details.endswith(" of elsewhere")


def test_a_letter_that_comes_again_after_its_redrive_is_the_same_message(writer, letters, redriver):
    """Its envelope was stored, and not acknowledged yet when the worker was killed."""
    for _ in range(2):
        writer.store([letter(b"one")])
        redriver.redrive(find(letters))
    first, again = redriver.sent
    assert first.id == again.id


def test_a_message_that_the_broker_gave_up_keeps_the_id_that_its_sender_knows(
    writer, letters, redriver
):
    message = one()
    writer.store([DeadEnvelope(message, "broker-expired", "")])
    writer.store([letter(b"y", reason="broker-expired")])
    kept, odd = find(letters, after=0), find(letters)
    assert redriver.redrive(kept).id == message.id
    assert redriver.redrive(odd).id != "an id"


@pytest.mark.parametrize(
    ("dead", "words"),
    [
        (letter(b""), "no body"),
        (letter(b"x" * 11), "11 bytes"),
        (letter(topic="NO TOPIC"), "topic=NAME"),
    ],
)
def test_a_letter_that_would_only_die_again_stays(writer, letters, redriver, dead, words):
    writer.store([dead])
    with pytest.raises(RedriveError, match=words):
        redriver.redrive(find(letters))
    with pytest.raises(TopicError):
        redriver.redrive(find(letters), "NOR THIS")
    assert redriver.sent == []
    assert letters.count(Choice()) == 1


def test_a_letter_whose_message_is_not_confirmed_stays(writer, letters, redriver):
    def refuse(_):
        raise RefusedError("not now")

    writer.store([letter()])
    redriver._publish = refuse
    for _ in range(5):  # and gives its place back
        with pytest.raises(RefusedError, match="not now"):
            redriver.redrive(find(letters))
    assert letters.count(Choice()) == 1


def test_a_letter_of_another_systems_topic_goes_to_the_mapped_one_where_that_is_set(
    writer, letters
):
    sent = []
    config = configuration.load({"APPLIANCE_MAP_TOPICS": "on"})
    writer.store([letter(topic="Home/Kitchen", reason="bad-topic")])
    Redriver(config, letters, sent.append).redrive(find(letters))
    assert [envelope.topic for envelope in sent] == ["home.kitchen"]
    assert letters.count(Choice()) == 0


def test_a_letter_whose_message_is_over_is_redriven_by_force_only_and_ends_no_more(
    writer, letters, redriver
):
    meta = '{"via":"http","expires_at":"2026-01-01T00:00:00.000Z"}'
    writer.store([replace(letter(b"one"), meta=meta)])
    with pytest.raises(RedriveError, match="over at 2026-01-01"):
        redriver.redrive(find(letters))
    assert redriver.sent == []
    redriver.redrive(find(letters), force=True)
    (sent,) = redriver.sent
    assert (sent.meta, sent.expires_at) == ('{"via":"http"}', None)


def test_a_letter_whose_message_is_not_over_yet_keeps_its_end(writer, letters, redriver):
    at = "2999-01-01T00:00:00.000Z"
    writer.store([replace(letter(b"one"), meta=f'{{"expires_at":"{at}"}}')])
    redriver.redrive(find(letters))
    (sent,) = redriver.sent
    assert (sent.meta, sent.expires_at) == (f'{{"expires_at":"{at}"}}', at)
