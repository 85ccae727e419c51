"""Views and indexes of JSON bodies in PostgreSQL: what they hold, and that no name does harm."""

import pytest
from own_sql import by_sql
from store_contents import many, one

from appliance.errors import ExistsError
from appliance.model.conditions import json_path, parse_condition
from appliance.model.shape import shape_of
from appliance.model.view_columns import ViewColumn
from appliance.store.filters import MessageFilter
from appliance.store.postgresql import json_indexes
from appliance.store.rows import Span
from appliance.store.sql import search_range

BODIES = [
    b'{"device": "t-6", "customer": {"id": 42}, "a b": 1, "it\'s": "quoted"}',
    b'{"device": "t-7", "customer": {"id": "42"}, "Device": true, "id": 9223372036854775808}',
    b"no JSON",
    b"\xff",
    b"[1]",
    b'{"customer": {"id": 4.20e1}, "device": "' + b"long" * 2000 + b'"}',
]
LONG = "long" * 2000


@pytest.fixture
def engine():
    return "postgresql"


@pytest.fixture(autouse=True)
def time_enough(monkeypatch):
    """A search here comes to its end, however busy the machine is."""
    monkeypatch.setattr(search_range, "FIND_SECONDS", 60.0)


@pytest.fixture
def aids(store, writer):
    writer.store([one(body, "orders.eu") for body in BODIES])
    writer.store([many([b'{"customer": {"id": 42}}'] * 3, "other")])
    return store.sql_aids


def found(store, *where, topic="orders.eu"):
    wanted = MessageFilter(topics=(topic,), where=tuple(map(parse_condition, where)))
    return [row.seq for row in store.reader.find(wanted, Span(), 10).rows]


def test_a_view_has_a_column_for_each_key_and_a_row_for_each_message(aids, config):
    columns = aids.make_view("orders.eu", "orders", shape_of(BODIES[:5]).keys)
    assert [column.name for column in columns] == [
        "device", "customer_id", "a_b", "it_s", "Device_2", "id",
    ]  # fmt: skip
    rows = by_sql(config, 'SELECT device, customer_id, a_b, it_s, "Device_2" FROM orders '
                          "WHERE seq < 6 ORDER BY seq")  # fmt: skip
    assert rows[0] == ("t-6", "42", "1", "quoted", None)
    assert rows[1] == ("t-7", "42", None, None, "true")
    assert rows[2:] == [(None,) * 5] * 3


def test_a_view_that_is_made_again_keeps_its_columns_in_their_order(aids):
    aids.make_view("orders.eu", "orders", ["b", "a"])
    columns = aids.make_view("orders.eu", "orders", ["c", "a", "B"])
    assert columns == [ViewColumn("b", "b"), ViewColumn("a", "a"), ViewColumn("c", "c"),
                       ViewColumn("B_2", "B")]  # fmt: skip


def test_names_and_keys_of_any_length_and_any_characters_make_a_view(aids, config):
    names = ["ü" * 60, "ü" * 59 + "a", "%s ?:x", "'; DROP TABLE messages; --", "body_bytes", "*/"]
    keys = [f'["{each}"]' for each in names]
    name = "n" * 100
    assert len(aids.make_view("orders.eu", name, keys)) == len(keys)
    assert len(aids.make_view("orders.eu", name, [*keys, "more"])) == len(keys) + 1
    rows = by_sql(config, f"SELECT * FROM {name}")
    assert {len(row) for row in rows} == {len(keys) + 5}
    assert aids.drop_view(name)
    assert not aids.drop_view(name)


@pytest.mark.parametrize("name", ["messages", "MESSAGES", "topics", "mine", "messages_topic"])
def test_a_view_takes_the_place_of_nothing_that_it_did_not_make(aids, config, name):
    by_sql(config, "CREATE VIEW mine AS SELECT 1")
    for act in (lambda: aids.make_view("orders.eu", name, ["a"]), lambda: aids.drop_view(name)):
        with pytest.raises(ExistsError, match="was not made by"):
            act()


def test_a_view_of_another_topic_is_not_replaced(aids):
    aids.make_view("orders.eu", "orders", ["a"])
    with pytest.raises(ExistsError, match=r"orders\.eu"):
        aids.make_view("other", "orders", ["a"])


def test_an_index_of_a_value_finds_the_same_and_takes_any_value(aids, store, writer):
    conditions = ["customer.id=42", 'customer.id="42"', "customer.id=43", "id=9223372036854775808",
                  "id=9223372036854775807", "customer.id=42.0", "device=t-6",
                  f"device={LONG[:900]}", "id=1e999999", "customer.id=4200e-2"]  # fmt: skip
    before = [found(store, condition) for condition in conditions]
    for path in ("customer.id", "id", "device"):
        assert aids.make_index("orders.eu", json_path(path))
        assert not aids.make_index("orders.eu", json_path(path))
    assert [found(store, condition) for condition in conditions] == before
    assert before[0] == [6, 2, 1]
    assert before[5] == before[9] == [6, 1]
    assert found(store, "device>t-5", "customer.id=42") == [2, 1]
    assert found(store, "customer.id=42", topic="other") == [9, 8, 7]
    writer.store([one(b'{"device": "%s"}' % (b"x" * 100_000), "orders.eu")])
    assert found(store, "device=" + "x" * 500) == []


def test_an_index_is_used_where_it_spares_reading(aids, store, writer):
    writer.store([many([b'{"n": %d}' % n for n in range(3000)], "orders.eu")])
    aids.make_index("orders.eu", json_path("n"))
    values = {}
    with store.reader.reading() as connection:
        where = (parse_condition("n=1234"),)
        (topic, test) = json_indexes.lookup(connection, "orders.eu", where, values)
        plan = connection.execute(
            f"EXPLAIN SELECT seq FROM messages WHERE {topic} AND {test} ORDER BY seq LIMIT 8",
            values,
        ).fetchall()
    assert any("appliance_json_" in line for (line,) in plan), plan
    assert found(store, "n=1234") == [1244]


def test_indexes_are_listed_and_removed(aids):
    aids.make_index("orders.eu", json_path("customer.id"))
    aids.make_view("orders.eu", "orders", ["a"])
    assert aids.indexes() == [("orders.eu", "$.customer.id")]
    assert aids.drop_index("orders.eu", json_path("customer.id"))
    assert not aids.drop_index("orders.eu", json_path("customer.id"))
    assert aids.indexes() == []
