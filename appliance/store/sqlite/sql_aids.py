"""The views and the indexes of JSON bodies, as the seam of the store has them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from appliance.model.json_path import JsonPath
from appliance.model.view_columns import ViewColumn
from appliance.store.sqlite import json_indexes, json_views


class SqliteAids:
    """Makes views and indexes in the database at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make_view(self, topic: str, name: str, keys: Iterable[str]) -> Sequence[ViewColumn]:
        """Make or remake the view of a topic; return its columns."""
        return json_views.make_view(self._path, topic, name, keys)

    def drop_view(self, name: str) -> bool:
        """Remove a view; return whether there was one."""
        return json_views.drop_view(self._path, name)

    def make_index(self, topic: str, key: JsonPath) -> bool:
        """Make an index of a value; return whether there was none."""
        return json_indexes.make_index(self._path, topic, key)

    def drop_index(self, topic: str, key: JsonPath) -> bool:
        """Remove an index; return whether there was one."""
        return json_indexes.drop_index(self._path, topic, key)

    def indexes(self) -> Sequence[tuple[str, str]]:
        """Return topic and path of each index."""
        return json_indexes.json_indexes(self._path)
