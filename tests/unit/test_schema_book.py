"""The schemas in force: compiled once, gone with the snapshot, honest without the library."""

import sys
import threading

import pytest

from appliance.auth.authorizer import Authorizer
from appliance.auth.snapshot import AccessSnapshot
from appliance.errors import MissingExtraError, RefusedError
from appliance.schemas.book import SchemaBook
from appliance.schemas.checker import SchemaChecker
from appliance.store.access_rows import AccessRows, SchemaRow

TEXT = '{"type":"object"}'


def row(topic, mode="reject", text=TEXT):
    return SchemaRow(topic, mode, text, "2026-01-02T03:04:05.678Z")


@pytest.fixture
def authorizer():
    return Authorizer("t" * 32)


@pytest.fixture
def put(authorizer):
    def put(*rows):
        authorizer.put(AccessSnapshot.of(AccessRows(1, [], [], rows), 0.0))

    return put


def test_a_book_knows_the_topics_of_the_snapshot_and_compiles_each_once(authorizer, put):
    book = SchemaBook(lambda: authorizer.snapshot.schemas)
    assert book.of("orders") is None
    put(row("orders"))
    schema = book.of("orders")
    assert book.of("orders") is schema
    assert book.of("others") is None
    assert schema.error(b"[]")
    put(row("orders"), row("others"))  # something else has changed
    assert book.of("orders") is schema
    assert (schema.checked, schema.invalid) == (1, 1)


def test_a_book_takes_another_schema_and_drops_one_that_is_gone(authorizer, put):
    book = SchemaBook(lambda: authorizer.snapshot.schemas)
    put(row("orders"))
    assert book.of("orders").error(b"[]")
    put(row("orders", text='{"type":"array"}'))
    assert book.of("orders").error(b"[]") is None
    put()
    assert book.of("orders") is None


@pytest.mark.parametrize("text", ["no json", '{"$ref":"#"}', '{"type":"foo"}'])
def test_a_schema_that_someone_wrote_by_sql_refuses_unless_it_only_observes(authorizer, put, text):
    put(row("a", "reject", text), row("b", "quarantine", text), row("c", "observe", text))
    book = SchemaBook(lambda: authorizer.snapshot.schemas)
    for topic in ("a", "b"):
        with pytest.raises(RefusedError, match="can't be checked here"):
            book.of(topic).error(b"{}")
    assert book.of("c").error(b"anything") is None


def test_a_schema_without_the_library_can_not_be_set_and_never_passes(authorizer, put, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)
    with pytest.raises(MissingExtraError, match=r"queue-appliance\[schema\]"):
        SchemaChecker(TEXT)
    put(row("a"), row("b", "observe"))
    book = SchemaBook(lambda: authorizer.snapshot.schemas)
    with pytest.raises(RefusedError):
        book.of("a").error(b"{}")
    assert book.of("b").error(b"[]") is None


def test_a_book_can_be_read_by_threads_while_snapshots_change(authorizer, put):
    book, errors, done = SchemaBook(lambda: authorizer.snapshot.schemas), [], threading.Event()

    def read():
        try:
            while not done.is_set():
                for n in range(40):
                    book.of(f"t{n}")
        except Exception as error:  # noqa: BLE001  # whatever it is, it is one too many
            errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for turn in range(60):
        put(*(row(f"t{n}", text=f'{{"minimum":{turn}}}') for n in range(turn % 3, 40)))
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
