"""Lets a node find its queues where the data folder is now.

Ra, which keeps the log of a quorum queue, writes the log's path into the queue's `config`, and
RabbitMQ 3.x trusts that path: in a data folder that was moved, renamed or restored elsewhere, the
queue would be dead and its messages lost. So the paths are corrected before each start.
"""

import re
from pathlib import Path
from typing import Final

from appliance.broker.node.layout import Layout
from appliance.broker.node.queue_files import queue_logs
from appliance.machine.files import write_private

#: As Erlang prints it: a key of a map and a string.
_PATH: Final = re.compile(rb'(\b(?:wal_)?data_dir\s*=>\s*)"(?:[^"\\]|\\.)*"', re.DOTALL)


def follow(layout: Layout) -> bool:
    """Write each queue's path into its `config`; whether one of them had another path.

    Raises OSError.
    """
    logs = queue_logs(layout)
    wanted = _quoted(logs)
    changed = False
    for config in sorted(logs.glob("*/config")):
        text = config.read_bytes()
        corrected = _PATH.sub(lambda match: match[1] + wanted, text)
        if corrected != text:
            write_private(config, corrected.decode("latin-1"), encoding="latin-1")
            changed = True
    return changed


def _quoted(path: Path) -> bytes:
    """Return a path as a string of Erlang's, in ASCII."""
    return b'"%s"' % b"".join(_character(character) for character in str(path))


def _character(character: str) -> bytes:
    if character in '"\\':
        return b"\\" + character.encode()
    if character.isascii() and character.isprintable():
        return character.encode()
    return b"\\x{%X}" % ord(character)
