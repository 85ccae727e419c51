"""The order of the files of tests: where files run side by side, a long one must not come last."""

from collections.abc import Sequence

import pytest


def longest_first(items: list[pytest.Item], names: Sequence[str]) -> None:
    """Move the tests of the files with these names to the front, the first name first."""
    rank = {name: number for number, name in enumerate(names)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
