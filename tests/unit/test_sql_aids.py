"""Views and indexes of JSON bodies: what they hold, and that no name or key can do harm."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from store_contents import many, one

from appliance import config as configuration
from appliance.cli import _cli
from appliance.errors import ExistsError
from appliance.model.conditions import json_path, parse_condition
from appliance.model.shape import shape_of
from appliance.model.view_columns import ViewColumn, view_columns
from appliance.store import open_store
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.store.sqlite import finder, json_views
from appliance.store.sqlite.database import connect, sqlite3

BODIES = [
    b'{"device": "t-6", "customer": {"id": 42}, "a b": 1, "it\'s": "quoted"}',
    b'{"device": "t-7", "customer": {"id": "42"}, "Device": true, "id": 9223372036854775808}',
    b"no JSON",
    b"\xff",
    b"[1]",
]


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")}))
    store.migrate()
    writer = store.open_writer()
    writer.store([one(body, "orders.eu") for body in BODIES])
    writer.store([many([b'{"customer": {"id": 42}}'] * 3, "other")])
    writer.close()
    yield store
    store.reader.close()


def rows(store, query):
    connection = connect(store.path, readonly=True)
    try:
        cursor = connection.execute(query)
        names = [each[0] for each in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]
    finally:
        connection.close()


def test_a_view_has_a_column_for_each_key_and_a_row_for_each_message(store):
    columns = store.sql_aids.make_view("orders.eu", "orders", shape_of(BODIES).keys)
    assert [column.name for column in columns] == [
        "device", "customer_id", "a_b", "it_s", "Device_2", "id",
    ]  # fmt: skip
    view = rows(store, "SELECT * FROM orders ORDER BY seq")
    assert [row["device"] for row in view] == ["t-6", "t-7", None, None, None]
    assert [row["customer_id"] for row in view] == [42, "42", None, None, None]
    assert (view[0]["a_b"], view[0]["it_s"], view[1]["Device_2"]) == (1, "quoted", 1)
    assert rows(store, "SELECT count(*) AS n FROM orders WHERE customer_id = 42") == [{"n": 1}]


def test_a_view_that_is_made_again_keeps_its_columns_in_their_order(store):
    store.sql_aids.make_view("orders.eu", "orders", ["b", "a"])
    columns = store.sql_aids.make_view("orders.eu", "orders", ["c", "a", "B"])
    assert columns == [ViewColumn("b", "b"), ViewColumn("a", "a"), ViewColumn("c", "c"),
                       ViewColumn("B_2", "B")]  # fmt: skip


@pytest.mark.parametrize("name", ["messages", "MESSAGES", "topics", "mine", "messages_topic"])
def test_a_view_takes_the_place_of_nothing_that_it_did_not_make(store, name):
    connection = sqlite3.connect(store.path)
    connection.execute("CREATE VIEW mine AS SELECT 1")
    connection.close()
    for act in (
        lambda: store.sql_aids.make_view("orders.eu", name, ["a"]),
        lambda: store.sql_aids.drop_view(name),
    ):
        with pytest.raises(ExistsError, match="was not made by"):
            act()


def test_a_view_of_another_topic_is_not_replaced(store):
    store.sql_aids.make_view("orders.eu", "orders", ["a"])
    with pytest.raises(ExistsError, match=r"orders\.eu"):
        store.sql_aids.make_view("other", "orders", ["a"])
    assert store.sql_aids.drop_view("orders")
    assert not store.sql_aids.drop_view("orders")


@given(st.lists(st.text(min_size=1, max_size=10), max_size=8), st.text(min_size=1, max_size=10))
@settings(max_examples=100, deadline=None)
def test_no_key_breaks_out_of_a_view(keys, name):
    body = json.dumps(dict.fromkeys([*keys, "*/", "'); DROP TABLE messages; --"], "value"))
    shape = shape_of([body.encode("utf-8", "replace")])
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE messages (seq, id, topic, body, received_at)")
    connection.execute("INSERT INTO messages VALUES (1, 'i', 't', ?, '')", (body,))
    columns = view_columns(shape.keys)
    name = name.replace("\0", "").encode("utf-8", "replace").decode() or "v"
    if name.casefold() != "messages" and not name.casefold().startswith("sqlite_"):
        connection.execute(json_views._statement("t", name, columns))
        cursor = connection.execute(f"SELECT * FROM {json_views.quoted(name)}")
        assert len(cursor.description) == len(columns) + 4
        assert list(cursor.fetchone())[3:-1] == ["value"] * len(columns)
        assert json_views._present(connection, name)["columns"] == columns
    connection.close()


def found(store, *where, topic="orders.eu"):
    wanted = MessageFilter(topics=(topic,), where=tuple(map(parse_condition, where)))
    return [row.seq for row in store.reader.find(wanted, Span(), 10).rows]


def test_an_index_of_a_value_finds_the_same_and_looks_at_no_other_row(store, monkeypatch):
    conditions = ["customer.id=42", 'customer.id="42"', "customer.id=43", "id=9223372036854775808",
                  "id=9223372036854775807", "customer.id=42.0", "device=t-6"]  # fmt: skip
    before = [found(store, condition) for condition in conditions]
    for path in ("customer.id", "id", "device"):
        assert store.sql_aids.make_index("orders.eu", json_path(path))
        assert not store.sql_aids.make_index("orders.eu", json_path(path))
    looked = []
    row_of = finder._Search._row
    monkeypatch.setattr(finder._Search, "_row", lambda s, c: looked.append(c.seq) or row_of(s, c))
    assert [found(store, condition) for condition in conditions] == before
    assert before[0] == [2, 1]
    assert len(looked) == sum(map(len, before))
    assert found(store, "device>t-5", "customer.id=42") == [2, 1]
    assert found(store, "customer.id=42", topic="other") == [8, 7, 6]


def test_indexes_are_listed_and_removed_and_named_as_no_fault(store):
    store.sql_aids.make_index("orders.eu", json_path("customer.id"))
    store.sql_aids.make_view("orders.eu", "orders", ["a"])
    assert store.sql_aids.indexes() == [("orders.eu", "$.customer.id")]
    result = store.verify(quick=False, alone=False, progress=lambda *_: None)
    assert result.problems == []
    assert len(result.yours) == 2
    assert store.sql_aids.drop_index("orders.eu", json_path("customer.id"))
    assert not store.sql_aids.drop_index("orders.eu", json_path("customer.id"))
    assert store.sql_aids.indexes() == []


def test_the_commands_say_what_they_made(store, monkeypatch):
    monkeypatch.setenv("APPLIANCE_DATA", str(store.path.parent))

    def run(*words):
        result = CliRunner().invoke(_cli, words)
        return result.output + str(result.exception or "")

    made = run("view", "orders.eu")
    assert "made the view orders_eu with 6 columns" in made
    assert "customer_id  (customer.id)" in made
    assert json.loads(run("view", "orders.eu", "--json"))["view"] == "orders_eu"
    assert "removed" in run("view", "orders.eu", "--drop")
    assert "there is no view" in run("view", "orders.eu", "--drop")
    assert "no JSON object" in run("view", "never")
    assert "letters, digits" in run("view", "orders.eu", "--name", 'a"b')
    assert "made the index" in run("index", "orders.eu", "customer.id")
    assert "there is this index already" in run("index", "orders.eu", "customer.id")
    assert run("index") == "orders.eu  $.customer.id\n"
    assert "removed" in run("index", "orders.eu", "customer.id", "--drop")
    assert "expected a path" in run("index", "orders.eu", "a..b")
