"""The certificate that our own node serves over TLS, in a file of its own that is always whole.

RabbitMQ reads the certificate and its key again for new connections, each when it likes. So both
are in one file of the node's folder, which is replaced at once, and only by a pair that fits.
"""

import ssl
from typing import Any, Final

import structlog

from appliance.broker.node.layout import Layout
from appliance.config import PREFIX, Config
from appliance.errors import ConfigError
from appliance.machine.complaint import Complaint
from appliance.machine.files import write_private

#: Seconds between two looks for renewed files.
LOOK_SECONDS: Final = 10.0

_log: Any = structlog.get_logger(__name__)


def write(config: Config) -> bool:
    """Write the file, where the node serves TLS; return whether it is another one than before.

    Raises ConfigError where the pair can't be used, OSError where it can't be written.
    """
    if not config.broker_serves_tls or config.broker_certificate is None:
        return False
    certificate, key = config.broker_certificate
    name = f"{PREFIX}BROKER_TLS_CERT" if config.broker_tls_cert else f"{PREFIX}TLS_CERT"
    try:
        text = f"{certificate.read_text().rstrip()}\n{key.read_text().rstrip()}\n"
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: {certificate} and {key} can't be read ({error})") from error
    path = Layout(config.broker_home).certificate
    if path.exists() and path.read_text() == text:
        return False
    new = path.with_suffix(".new")
    try:
        write_private(new, text)
        _check(str(new), f"{name}: {certificate} and {key}")
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)
    return True


def _check(pem: str, subject: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a passphrase would be asked for on the terminal.
        context.load_cert_chain(pem, password=lambda: "")
    except (OSError, ValueError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"{subject} are no certificate and its key, both in PEM, the key without a "
            f"passphrase ({reason})"
        ) from error


class Renewal:
    """Takes up renewed files while the node runs; a duty of the janitor's."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.complaint = Complaint(
            _log, "new certificate refused", "certificate usable again", level="error"
        )

    def renew(self) -> float:
        """Look for renewed files; return the seconds until the next look."""
        try:
            if Layout(self._config.broker_home).certificate.exists() and write(self._config):
                _log.info("certificate renewed")
        except (ConfigError, OSError) as error:
            self.complaint.fails(kind=str(error), error=str(error))
        else:
            self.complaint.works()
        return LOOK_SECONDS
