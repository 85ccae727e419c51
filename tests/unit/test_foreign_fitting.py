"""A foreign message is a row or a letter, whatever becomes of schemas between two deliveries."""

import sys
from dataclasses import replace

import orjson
import pytest

from appliance import config as configuration
from appliance.model.contents import DeadEnvelope, ForeignMessage, LedgerReport
from appliance.model.ids import key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Kind
from appliance.schemas.foreign_fitter import ForeignFitter
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed, SchemaRow

DEED = Deed(Actor("t", "t"), "schema-set", "orders")


@pytest.fixture
def store(tmp_path):
    made = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path)}))
    made.migrate()
    return made


@pytest.fixture
def fitter(store):
    return ForeignFitter(store)


def put(store, mode="reject", text='{"type":"object"}'):
    store.schemas.put(SchemaRow("orders", mode, text, now()), DEED)


def foreign(body, **more):
    made = ForeignMessage(
        "orders", Kind.MESSAGE, key_prefix("orders", "k") + "00000000", now(), 1, len(body), body
    )
    return replace(made, **more)


def deliver(store, fitter, message):
    writer = store.open_writer()
    writer.store(fitter.fitted_all([message]))
    writer.close()


def counts(store):
    totals = store.reader.totals()
    return totals.messages, totals.dead_letters


def test_message_of_ours_is_never_looked_at(store, fitter):
    put(store)
    ours = Envelope("orders", Kind.MESSAGE, "x", now(), 1, 1, b"x")
    assert fitter.fitted_all([ours]) == [ours]


def test_message_delivered_again_under_a_stricter_schema_stays_a_row(store, fitter):
    deliver(store, fitter, foreign(b"[]"))
    put(store)
    deliver(store, fitter, foreign(b"[]", redelivered=True))
    assert counts(store) == (1, 0)


@pytest.mark.parametrize("removed", [True, False])
def test_message_delivered_again_under_a_looser_schema_stays_a_letter(store, fitter, removed):
    put(store)
    deliver(store, fitter, foreign(b"[]"))
    if removed:
        store.schemas.remove("orders", DEED)
    else:
        put(store, text='{"type":"array"}')
    deliver(store, fitter, foreign(b"[]", redelivered=True))
    assert counts(store) == (0, 1)


def test_message_that_its_sender_sends_again_once_it_fits_is_stored(store, fitter):
    put(store)
    deliver(store, fitter, foreign(b"[]"))
    store.schemas.remove("orders", DEED)
    deliver(store, fitter, foreign(b"[]"))
    assert counts(store) == (1, 1)


def test_another_message_with_the_id_of_a_letter_is_stored(store, fitter):
    put(store)
    deliver(store, fitter, foreign(b"[]"))
    deliver(store, fitter, foreign(b"{}", redelivered=True))
    assert counts(store) == (1, 1)


@pytest.mark.parametrize(("mode", "kind"), [("observe", ForeignMessage), ("reject", DeadEnvelope)])
def test_without_the_library_nothing_is_stored_unchecked_that_must_be_checked(
    store, fitter, monkeypatch, mode, kind
):
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    put(store, mode)
    (found,) = fitter.fitted_all([foreign(b"{}")])
    assert type(found) is kind
    if kind is DeadEnvelope:
        assert "can't be checked here" in found.letters()[0].error


def test_a_check_that_breaks_makes_a_letter_and_ends_nothing(store, fitter, monkeypatch):
    put(store)
    fitter.fitted_all([])
    monkeypatch.setattr(fitter._book.of("orders").checker, "_validator", object())
    (found,) = fitter.fitted_all([foreign(b"{}")])
    assert found.letters()[0].error == "can't be checked (AttributeError)"


def test_a_meta_that_is_full_makes_room_for_the_mark(store, fitter):
    put(store, "quarantine")
    meta = orjson.dumps({"via": "amqp", "type": "x" * 7900, "headers": {"a": "b" * 200}}).decode()
    (found,) = fitter.fitted_all([foreign(b"[]", meta=meta)])
    members = orjson.loads(found.letters()[0].meta)
    assert members["quarantine"] == "topic orders"


def test_each_message_is_a_sign_of_life(store, fitter):
    beats = []
    fitter.fitted_all([foreign(b"1"), foreign(b"2"), LedgerReport("")], lambda: beats.append(1))
    assert len(beats) == 2
