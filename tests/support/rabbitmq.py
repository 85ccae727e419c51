"""RabbitMQ's own command line, for what only it can do to a node."""

import subprocess

from harness import Folder

from appliance.broker.node.layout import NODE_NAME
from appliance.machine.ports import distribution_port


def rabbitmqctl(folder: Folder, *arguments: str) -> str:
    """Run rabbitmqctl against a folder's node, which uses no epmd. Takes seconds."""
    home = folder.data / "broker"
    port = distribution_port(folder.config.amqp.port)
    done = subprocess.run(
        ["/usr/lib/rabbitmq/bin/rabbitmqctl", "--node", NODE_NAME, *arguments],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "RABBITMQ_CTL_ERL_ARGS": f"-start_epmd false -erl_epmd_port {port} -dist_listen false",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
