"""Places for searches that take long: so few run at once that everyone else is served meanwhile."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Searches that can take long at once: half of the threads that serve the API's reads.
MOST: Final = 4
#: The same of one asker.
MOST_OF_ONE: Final = 2


class SearchPlaces:
    """Used by any thread. Nobody waits for a place: who finds none must be quick."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, asker: str) -> Iterator[bool]:
        """Take a place for the block if there is one; say whether there was."""
        with self._lock:
            has_place = self._taken.total() < MOST and self._taken[asker] < MOST_OF_ONE
            if has_place:
                self._taken[asker] += 1
        try:
            yield has_place
        finally:
            if has_place:
                with self._lock:
                    self._taken[asker] -= 1
                    if not self._taken[asker]:  # askers come and go
                        del self._taken[asker]
