"""A SQLite database with this program's schema: made once in a process of tests, and copied.

The changes take 20 ms of a processor, and thousands of tests begin with what they leave.
"""

import functools
import tempfile
from pathlib import Path

from appliance.store.sqlite import migrations

_NAME = "appliance.db"


@functools.cache
def _files() -> dict[str, tuple[bytes, int]]:
    """Return all that is left beside one another: the name's end -> the content, and the mode."""
    with tempfile.TemporaryDirectory() as folder:
        migrations.migrate(Path(folder) / _NAME)
        return {
            file.name.removeprefix(_NAME): (file.read_bytes(), file.stat().st_mode)
            for file in Path(folder).iterdir()
        }


def migrate(path: Path) -> None:
    """Do what the store's own `migrate` does. One that is there already is left to that."""
    if path.exists():
        migrations.migrate(path)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for end, (content, mode) in _files().items():
        file = path.with_name(path.name + end)
        file.write_bytes(content)
        file.chmod(mode)
