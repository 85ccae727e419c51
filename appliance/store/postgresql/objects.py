"""Compares the tables, columns, indexes and triggers that are there with those of our schema."""

import functools
import re
from importlib import resources
from typing import Any, Final

from appliance.store.postgresql import migrations

_CREATES: Final = re.compile(
    r"^CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER|FUNCTION) (?:IF NOT EXISTS )?(\w+)", re.MULTILINE
)
_IS_THERE: Final = """
    SELECT lower(kind), name FROM unnest(:kinds::text[], :names::text[]) AS wanted (kind, name)
    WHERE NOT CASE kind
        WHEN 'TRIGGER' THEN EXISTS (
            SELECT 1 FROM pg_trigger WHERE tgname = name AND tgenabled <> 'D'
            AND (SELECT relnamespace FROM pg_class WHERE oid = tgrelid)
                = current_schema()::regnamespace
        )
        WHEN 'FUNCTION' THEN EXISTS (
            SELECT 1 FROM pg_proc WHERE proname = name
            AND pronamespace = current_schema()::regnamespace
        )
        WHEN 'INDEX' THEN EXISTS (
            SELECT 1 FROM pg_class JOIN pg_index ON indexrelid = oid
            WHERE relname = name AND indisvalid AND relnamespace = current_schema()::regnamespace
        )
        ELSE to_regclass(quote_ident(name)) IS NOT NULL
    END
"""


@functools.cache
def _wanted() -> tuple[tuple[str, str], ...]:
    """Return kind and name of everything that the schema's files make."""
    folder = resources.files(__package__) / "schema"
    found: list[tuple[str, str]] = []
    for name in migrations.changes():
        found += _CREATES.findall((folder / name).read_text())
    return tuple(found)


def lacking(connection: Any) -> list[str]:
    """Return in words what is gone, switched off or not valid."""
    kinds, names = (list(part) for part in zip(*_wanted(), strict=True))
    rows = connection.execute(_IS_THERE, {"kinds": kinds, "names": names}).fetchall()
    return [f"the {kind} {name} is gone" for kind, name in rows]
