"""Where a table or an index lies in a database's file, for tests that damage one page of it."""

import struct
from pathlib import Path

from appliance.store.sqlite.database import connect

#: Bytes of a page of the appliance's database.
PAGE = 8192


def pages(database: Path, name: str) -> tuple[int, list[int]]:
    """Return the number of the root page of a table or an index, and those of its leaf pages.

    The first page of a database has the number 1.
    """
    link = connect(database, readonly=True)
    try:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        root = link.execute(query, (name,)).fetchone()[0]
    finally:
        link.close()
    content = database.read_bytes()
    leaves, waiting = [], [root]
    while waiting:
        number = waiting.pop()
        page = content[(number - 1) * PAGE : number * PAGE]
        if page[0] in (2, 5):  # an interior page
            count = int.from_bytes(page[3:5])
            cells = struct.unpack(f">{count}H", page[12 : 12 + 2 * count])
            waiting += [int.from_bytes(page[at : at + 4]) for at in cells]
            waiting.append(int.from_bytes(page[8:12]))
        else:
            leaves.append(number)
    return root, sorted(leaves)
