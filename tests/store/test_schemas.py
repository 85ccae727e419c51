"""JSON Schemas in the store: a change is seen by the version, and stands in the audit trail."""

import pytest

from appliance.errors import LimitError
from appliance.store.access_rows import Actor, Deed, SchemaRow
from appliance.store.rows import Span
from appliance.store.sql import schemas as schemas_module

ADMIN = Actor("administrator", "127.0.0.1")


@pytest.fixture
def migrated(store):
    store.migrate()
    return store


def row(topic="orders", mode="observe", schema='{"type":"object"}', at="2026-01-02T03:04:05.678Z"):
    return SchemaRow(topic, mode, schema, at)


def deed(topic="orders", action="schema-set"):
    return Deed(ADMIN, action, topic, "mode observe")


def test_a_schema_that_was_put_is_found_and_replaced_and_removed(migrated):
    schemas = migrated.schemas
    assert schemas.find("orders") is None
    assert schemas.put(row(), deed())
    assert schemas.put(row("apples"), deed("apples"))
    assert not schemas.put(row(mode="reject", schema="true"), deed())
    assert schemas.all() == [row("apples"), row(mode="reject", schema="true")]
    assert schemas.find("orders") == row(mode="reject", schema="true")
    assert schemas.remove("orders", deed(action="schema-remove"))
    assert not schemas.remove("orders", deed(action="schema-remove"))
    assert schemas.all() == [row("apples")]


def test_a_change_of_a_schema_moves_the_version_and_is_in_the_rows(migrated):
    access, schemas = migrated.access, migrated.schemas
    versions = [access.version()]
    schemas.put(row(), deed())
    versions.append(access.version())
    assert access.rows().schemas == [row()]
    schemas.put(row(mode="reject"), deed())
    versions.append(access.version())
    schemas.remove("orders", deed())
    versions.append(access.version())
    assert versions == sorted(set(versions))
    assert access.rows().schemas == []


def test_a_change_of_a_schema_is_in_the_audit_trail_and_a_removal_of_none_is_not(migrated):
    migrated.schemas.put(row(), deed())
    migrated.schemas.remove("orders", deed(action="schema-remove"))
    migrated.schemas.remove("orders", deed(action="schema-remove"))
    entries = migrated.access.audit(Span(after=0), 10)
    assert [(entry.action, entry.target) for entry in entries] == [
        ("schema-set", "orders"), ("schema-remove", "orders"),
    ]  # fmt: skip


def test_schemas_have_a_limit_and_those_that_are_there_can_change(migrated, monkeypatch):
    monkeypatch.setattr(schemas_module, "MAX_SCHEMAS", 2)
    for topic in ("a", "b"):
        migrated.schemas.put(row(topic), deed(topic))
    with pytest.raises(LimitError, match="2 topics have a schema"):
        migrated.schemas.put(row("c"), deed("c"))
    migrated.schemas.put(row("b", mode="reject"), deed("b"))
