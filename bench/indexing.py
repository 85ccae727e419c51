"""Fills the full-text index of a database as the janitor does, and does nothing else.

`python -m bench.indexing DATABASE` goes on until it is ended.
"""

import sys
import time
from pathlib import Path

from appliance.store.sqlite.indexer import Indexer


def _rest(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def main() -> None:
    """Fill the index of the database that the command line names."""
    indexer = Indexer(Path(sys.argv[1]), is_on=True, floor=0, rest=_rest)
    while True:
        _rest(indexer.run())


if __name__ == "__main__":
    main()
