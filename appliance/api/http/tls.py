"""TLS: the certificate that is served, and connections that are encrypted with it.

A renewed certificate is taken up without a restart: new connections get it, those that are open go
on. A pair of files that can't be used is never taken up; the one before stays.

A connection counts as a stranger's from its first moment, also while it has not yet said anything:
whoever begins handshakes and does not end them takes no more than anyone else.
"""

import asyncio
import contextlib
import ssl
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from appliance.api.http.connection import Connection
from appliance.api.http.request import HeadPolicy
from appliance.errors import ConfigError

if TYPE_CHECKING:
    from appliance.api.http.acceptor import Acceptor

#: Seconds for a handshake.
_HANDSHAKE_SECONDS: Final = 10.0
#: Handshakes at once; each holds some tens of kilobytes. For one more, the oldest is ended: of
#: those that have not said hello, if there is any. So a flood of silent connections ends itself,
#: and no client amid its handshake.
_MOST_HANDSHAKES: Final = 512
#: Bytes that are decrypted at once.
_READ_BYTES: Final = 256 * 1024

_log: Any = structlog.get_logger(__name__)

#: The state of the two files, by which a renewal shows.
_State = tuple[tuple[int, int, int], ...]


class Certificate:
    """The certificate chain and the key of two PEM files. Raises ConfigError if they are bad.

    `context` is for the next handshake.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._state = self._look()
        self.context = _context(*self._files)
        self._refused: _State | None = None
        #: handshakes under way, in the order in which they began, and were answered
        self.unanswered: OrderedDict[Encrypted, None] = OrderedDict()
        self.answered: OrderedDict[Encrypted, None] = OrderedDict()

    def renew(self) -> None:
        """Take up files that have changed since; where they can't be used, say so once.

        For any thread: the files may lie on a disk that hangs.
        """
        state: _State = ()
        try:
            state = self._look()
            if state in (self._state, self._refused):
                return
            self.context = _context(*self._files)
        except ConfigError as error:
            if state != self._refused:
                _log.error("new certificate refused", error=str(error))
            self._refused = state
            return
        self._state, self._refused = state, None
        _log.info("certificate renewed")

    def _look(self) -> _State:
        try:
            found = [path.stat() for path in self._files]
        except OSError as error:
            raise ConfigError(
                f"APPLIANCE_TLS_CERT: {error.filename} can't be read: {error.strerror}"
            ) from error
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a passphrase would be asked for on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"APPLIANCE_TLS_CERT: {certificate} and {key} are no certificate and its key, "
            f"both in PEM, the key without a passphrase ({reason})"
        ) from error
    return context


class Encrypted(asyncio.Protocol):
    """An encrypted connection: a protocol to the socket, and a transport to the `Connection`.

    The connection is made when the handshake has ended; until then this is what is counted.
    """

    def __init__(self, acceptor: "Acceptor", policy: HeadPolicy, certificate: Certificate) -> None:
        self._acceptor = acceptor
        self._policy = policy
        self._certificate = certificate
        self._context = certificate.context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._deadline = acceptor.loop.time() + _HANDSHAKE_SECONDS
        self._connection: Connection | None = None
        self._is_reading = True
        self._raw: Any  # the socket's transport

    # --- what asyncio calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, where there is room for one more."""
        self._raw = transport
        if not self._acceptor.add(self):
            self.abort()  # it can't be told: that would take a handshake
            return
        certificate = self._certificate
        if len(certificate.unanswered) + len(certificate.answered) >= _MOST_HANDSHAKES:
            next(iter(certificate.unanswered or certificate.answered)).abort()
        certificate.unanswered[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end_handshake()
        if self._connection is not None:
            self._connection.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        self._incoming.write(data)
        if self._connection is None:
            self._shake_hands()
        else:
            self._read()

    def eof_received(self) -> bool:
        """Let the connection say whether an answer is still under way."""
        return self._connection is not None and self._connection.eof_received()

    def pause_writing(self) -> None:
        """Tell the connection that the client reads slowly."""
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Tell it that there is room again."""
        if self._connection is not None:
            self._connection.resume_writing()

    # --- reading --------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._outgoing.pending and self in self._certificate.unanswered:
                del self._certificate.unanswered[self]
                self._certificate.answered[self] = None
            self._flush()
            return
        except ssl.SSLError:  # no TLS, or none that we speak; the client is told why
            self._flush()
            self._end_handshake()
            self._raw.close()
            return
        self._flush()
        self._end_handshake()
        self._connection = Connection(self._acceptor, self._policy)
        self._connection.connection_made(cast("asyncio.Transport", self))
        self._read()

    def _read(self) -> None:
        """Hand on what can be decrypted, until reading pauses."""
        while self._is_reading and self._connection is not None and not self.is_closing():
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                self._raw.abort()
                return
            if not data:  # the client has said goodbye
                if not self._connection.eof_received():
                    self.close()
                break
            self._connection.data_received(data)
        self._flush()

    # --- what the connection calls --------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError:
            self._raw.abort()
            return
        self._flush()

    def close(self) -> None:
        """Close when all that was written has gone out."""
        if not self.is_closing():
            with contextlib.suppress(ssl.SSLError):  # the client's goodbye is not waited for
                self._tls.unwrap()
            self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._end_handshake()
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return bool(self._raw.is_closing())

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._is_reading = False
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read again; what came before is decrypted first."""
        self._is_reading = True
        self._raw.resume_reading()
        self._acceptor.loop.call_soon(self._read)

    @staticmethod
    def can_write_eof() -> bool:
        """Whether one half can be closed: not of an encrypted connection."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return how many bytes have not gone out."""
        return int(self._raw.get_write_buffer_size())

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._context if name == "sslcontext" else self._raw.get_extra_info(name, default)

    # --- what the acceptor calls, until the handshake has ended -----------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether it may be ended for another one."""
        return True

    def last_call(self) -> None:
        """Go on: once the handshake has ended, the connection is told the same."""

    def stop(self) -> None:
        """End: nothing was asked yet."""
        self.abort()

    def check(self, now: float) -> None:
        """Look at the deadline; called twice a second."""
        if now >= self._deadline:
            self.abort()

    def _end_handshake(self) -> None:
        self._certificate.unanswered.pop(self, None)
        self._certificate.answered.pop(self, None)
        self._acceptor.discard(self)

    def _flush(self) -> None:
        if self._outgoing.pending and not self.is_closing():
            self._raw.write(self._outgoing.read())
