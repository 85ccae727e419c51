"""The schemas in force, by topic: each compiled once.

A topic without a schema costs a request one look into a dictionary, when its head is decided on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from appliance.errors import ApplianceError, RefusedError
from appliance.schemas.checker import SchemaChecker
from appliance.store.access_rows import SchemaRow

#: The reason of a dead letter that its topic's schema does not allow; programs compare it.
SCHEMA: Final = "schema"
#: What is done with a message that is not valid.
OBSERVE: Final = "observe"
QUARANTINE: Final = "quarantine"
REJECT: Final = "reject"
MODES: Final = (OBSERVE, QUARANTINE, REJECT)

_log: Any = structlog.get_logger(__name__)


@dataclass(slots=True)
class TopicSchema:
    """A topic's schema; counts what this process has checked since the schema was set."""

    row: SchemaRow
    checker: SchemaChecker | None
    checked: int = 0
    invalid: int = 0

    @property
    def mode(self) -> str:
        """What is done with a message that is not valid."""
        return self.row.mode

    def error(self, body: str | bytes) -> str | None:
        """Return why a body is not valid; None where it is.

        Raises RefusedError where it can't be checked here, and must be.
        """
        if self.checker is None:
            if self.mode == OBSERVE:
                return None
            raise RefusedError(
                "the topic's JSON Schema can't be checked here (the log says why); nothing was kept"
            )
        self.checked += 1
        error = self.checker.error(body)
        self.invalid += error is not None
        return error


@dataclass(slots=True)
class SchemaBook:
    """One for each process that checks; used in any thread.

    `rows` returns the schemas in force: another mapping when one of them has changed.
    """

    rows: Callable[[], Mapping[str, SchemaRow]]
    _open: dict[str, TopicSchema] = field(default_factory=dict)
    _seen: Mapping[str, SchemaRow] = field(default_factory=dict)

    def of(self, topic: str) -> TopicSchema | None:
        """Return the topic's schema; None where it has none."""
        rows = self.rows()
        if rows is not self._seen:
            known = list(self._open.items())  # other threads add to it meanwhile
            self._open = {name: schema for name, schema in known if rows.get(name) == schema.row}
            self._seen = rows
        row = rows.get(topic)
        if row is None:
            return None
        found = self._open.get(topic)
        if found is None:
            found = self._open[topic] = TopicSchema(row, _checker(row))
        return found


def _checker(row: SchemaRow) -> SchemaChecker | None:
    try:
        return SchemaChecker(row.schema)
    except ApplianceError as error:  # written by SQL, or the library is not installed
        _log.error("schema not usable", topic=row.topic, error=str(error))
        return None
