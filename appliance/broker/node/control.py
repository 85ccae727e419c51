"""Tells our own node, while it runs, of users that were made or removed: RabbitMQ's rabbitmqctl.

It starts an Erlang VM, which takes seconds; so only commands of an administrator call it. Nothing
secret is in its arguments: what is imported comes from a private file.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.broker.base import DEAD, QUEUE
from appliance.broker.node import definitions, synced, users
from appliance.broker.node.layout import NODE_NAME, Layout
from appliance.broker.node.release import find_server
from appliance.broker.node.start import is_running
from appliance.config import Config
from appliance.errors import NodeError, NotRunningError
from appliance.machine import files, locks
from appliance.machine.ports import distribution_port

#: Seconds. It takes two to four on an idle machine.
_TIMEOUT: Final = 120.0
_IS_GONE: Final = re.compile(r"does not exist|no_such_user|not found")
_LISTENER: Final = re.compile(r"^listeners\.tcp\.local = .*:([0-9]+)$", re.MULTILINE)


def create_user(
    config: Config,
    name: str,
    *,
    subscribes: bool = False,
    queues: Sequence[str] = (),
    door: str = "amqp",
    topics: Sequence[str] = (),
) -> tuple[users.AmqpUser, str]:
    """Make a user that can log in from now on; return it and its password.

    Raises NodeError where the node does not take it, and what `users.create` raises; then there is
    no such user.
    """
    _check_trust(config)
    home = config.broker_home
    made, password = users.create(
        home, name, subscribes=subscribes, queues=queues, door=door, topics=topics
    )
    try:
        policies = definitions.queue_policies(
            config.queue_max_bytes, config.queue_max_envelopes, made.queues
        )
        _import(config, {**users.imported([made]), "policies": policies})
    except BaseException:
        users.remove(home, name)
        raise
    return made, password


def remove_user(config: Config, name: str, *, door: str = "amqp") -> bool:
    """Remove a user of a door and end its connections; return whether there was one.

    Raises NodeError.
    """
    _check_running(config)
    if not any((u.name, u.door) == (name, door) for u in users.read(config.broker_home)):
        return False
    try:
        _run(config, "delete_user", name)
    except NodeError as error:  # an earlier attempt that was cut off
        if not _IS_GONE.search(str(error)):
            raise
    return users.remove(config.broker_home, name)


def _check_trust(config: Config) -> None:
    """Let nobody in while an envelope of an earlier version, which nobody signed, counts."""
    _check_running(config)
    if (config.broker_home / synced.SIGNED).exists():
        return
    listed = _run(config, "list_queues", "--quiet", "--no-table-headers", "messages", "name")
    queues = (line.split("\t") for line in listed.splitlines())
    if any(name in (QUEUE, DEAD) and int(count) for count, name in queues):
        raise NodeError(
            "the queue may hold envelopes of an earlier version, which can't be told from those of "
            "others; wait until it is empty, or end the workers once (appliance ctl restart "
            "worker:*), and try again"
        )
    # The queues are empty, so none is left; else the user could be the first to send one.
    synced.mark(config.broker_home, synced.SIGNED)
    files.give_to_owner_of(config.broker_home, config.broker_home / synced.SIGNED)


def _check_running(config: Config) -> None:
    if config.broker_urls:
        raise NodeError("APPLIANCE_BROKER_URL names a broker of your own: make its users there")
    if not is_running(config):
        raise NotRunningError("the appliance's own broker does not run; start it first")


def _import(config: Config, definitions: Mapping[str, Any]) -> None:
    home = config.broker_home
    path = home / "import.json"
    with locks.held(home / "import.lock", patience=None):
        try:
            files.write_private(path, json.dumps(definitions))
            _run(config, "import_definitions", str(path))
        finally:
            path.unlink(missing_ok=True)


def _run(config: Config, *arguments: str) -> str:
    """Run rabbitmqctl; return what it says. Raises NodeError where it fails."""
    layout = Layout(config.broker_home)
    _, server = find_server()
    port = distribution_port(listens(config))
    try:
        done = subprocess.run(  # the node's own command, without a shell
            [server.with_name("rabbitmqctl"), "--node", NODE_NAME, *arguments],
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(layout.home),
                "LANG": "C.UTF-8",
                "ERL_INETRC": str(layout.names),
                "RABBITMQ_CTL_ERL_ARGS": (
                    f"-start_epmd false -erl_epmd_port {port} -dist_listen false"
                ),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(layout.plugins),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"the broker can't be told: {error}") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise NodeError(f"the broker did not take it: {said[:500]}")
    return done.stdout


def listens(config: Config) -> int:
    """Return the AMQP port of the running node: `appliance run` can have chosen another one."""
    try:
        found = _LISTENER.search(Layout(config.broker_home).config.read_text())
    except OSError:
        found = None
    return int(found[1]) if found else config.amqp.port
