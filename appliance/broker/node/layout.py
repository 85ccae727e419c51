"""Where the files of our own RabbitMQ node lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The data folder of a node is named after it, so the name must not follow the host's.
NODE_NAME: Final = "appliance@localhost"


@dataclass(frozen=True)
class Layout:
    """Where the node's files lie, all below `home`."""

    home: Path

    @property
    def cookie(self) -> Path:
        """The secret that lets Erlang nodes talk to one another; read from $HOME."""
        return self.home / ".erlang.cookie"

    @property
    def config(self) -> Path:
        """rabbitmq.conf, written anew at each start."""
        return self.home / "rabbitmq.conf"

    @property
    def definitions(self) -> Path:
        """User, permissions and policy, imported at each start."""
        return self.home / "definitions.json"

    @property
    def certificate(self) -> Path:
        """The certificate that is served over TLS, and its key, in one file."""
        return self.home / "tls.pem"

    @property
    def plugins(self) -> Path:
        """The list of enabled plugins: none, or that of MQTT."""
        return self.home / "enabled_plugins"

    @property
    def schemas(self) -> Path:
        """A folder that names the parts of RabbitMQ whose settings it need know."""
        return self.home / "schemas"

    @property
    def names(self) -> Path:
        """How Erlang looks up hosts' names."""
        return self.home / "erl_inetrc"

    @property
    def version(self) -> Path:
        """Which RabbitMQ wrote the database last."""
        return self.home / "version"

    @property
    def lock(self) -> Path:
        """Held by the running node, so that no second one starts on the same database."""
        return self.home / "lock"

    @property
    def database(self) -> Path:
        """The node's own database and the queues' messages."""
        return self.home / "db"
