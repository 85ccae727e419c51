"""The views and the indexes of JSON bodies in PostgreSQL, as the seam of the store has them."""

from collections.abc import Iterable, Sequence

from appliance.model.json_path import JsonPath
from appliance.model.view_columns import ViewColumn
from appliance.store.postgresql import json_indexes, json_views
from appliance.store.postgresql.hosts import Hosts


class PostgresAids:
    """Makes views and indexes in the database of these hosts."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def make_view(self, topic: str, name: str, keys: Iterable[str]) -> Sequence[ViewColumn]:
        """Make or remake the view of a topic; return its columns."""
        return json_views.make_view(self._hosts.url_of_primary(), topic, name, keys)

    def drop_view(self, name: str) -> bool:
        """Remove a view; return whether there was one."""
        return json_views.drop_view(self._hosts.url_of_primary(), name)

    def make_index(self, topic: str, key: JsonPath) -> bool:
        """Make an index of a value; return whether there was none."""
        return json_indexes.make_index(self._hosts.url_of_primary(), topic, key)

    def drop_index(self, topic: str, key: JsonPath) -> bool:
        """Remove an index; return whether there was one."""
        return json_indexes.drop_index(self._hosts.url_of_primary(), topic, key)

    def indexes(self) -> Sequence[tuple[str, str]]:
        """Return topic and path of each index."""
        return json_indexes.json_indexes(self._hosts.url_of_primary())
