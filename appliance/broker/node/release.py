"""The RabbitMQ release that is installed, and whether it can read the database that is there."""

import re
from pathlib import Path
from typing import Final

from appliance.broker.node.layout import Layout
from appliance.config import Config
from appliance.errors import NodeError

#: Debian's folder. Not /usr/sbin/rabbitmq-server: that is a wrapper which changes the user.
_INSTALLED: Final = Path("/usr/lib/rabbitmq")


def find_server(installed: Path = _INSTALLED) -> tuple[tuple[int, ...], Path]:
    """Return release and start script of the RabbitMQ below `installed`.

    The release is read from a folder's name: asking the server would start an Erlang VM. Raises
    NodeError where there is none.
    """
    servers = [
        (tuple(int(part) for part in match[1].split(".")), folder / "sbin" / "rabbitmq-server")
        for folder in installed.glob("lib/rabbitmq_server-*")
        if (match := re.fullmatch(r"rabbitmq_server-(\d+(?:\.\d+)+).*", folder.name))
    ]
    usable = [(release, server) for release, server in servers if server.is_file()]
    if not usable:
        raise NodeError(
            "RabbitMQ is not installed; install it with: apt-get install rabbitmq-server"
        )
    return max(usable)


def check(config: Config) -> tuple[int, ...]:
    """Return the release that is installed, if it can read the data that is there.

    Nothing is changed. Raises NodeError where it can't.
    """
    release, _ = find_server()
    check_upgrade(Layout(config.broker_home), release)
    return release


def check_upgrade(layout: Layout, release: tuple[int, ...]) -> None:
    """Raise NodeError for a database that this release can't read, before it is changed."""
    try:
        text = layout.version.read_text().strip()
    except OSError:
        return
    if not text:
        return
    last = tuple(int(part) for part in text.split("."))
    if (last[0] == release[0] and last[:2] <= release[:2]) or (
        last[:2] == (3, 13) and release[:2] == (4, 0)
    ):
        return
    raise NodeError(
        f"APPLIANCE_DATA: {layout.home} was written by RabbitMQ {text}, which RabbitMQ "
        f"{text_of(release)} can't read; start the old one until its queue is empty, "
        "then move that folder away (the stored messages are not in it)"
    )


def text_of(release: tuple[int, ...]) -> str:
    """Return a release as people write it, like 4.0.5."""
    return ".".join(map(str, release))
