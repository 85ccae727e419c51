"""A name server of our own, and programs that know no other; needs root.

`NameServer` answers over UDP, in the way that a test chooses. `OwnNames` gives a command an
/etc/hosts and an /etc/resolv.conf of its own, which can be changed while it runs.
"""

import random
import socket
import struct
import threading
from pathlib import Path
from typing import Self

#: Ways to answer -> the answer's code; a silent server has none.
CODES = {"answers": 0, "server failure": 2, "no such name": 3, "silent": None}
#: Type of a question for an IPv4 address.
_A = 1
_SCRIPT = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


class NameServer:
    """Knows the IPv4 addresses of some names; on an address of the loopback of its own."""

    def __init__(self, **known: str) -> None:
        self.known = {name.replace("_", "."): address for name, address in known.items()}
        self.way = "answers"
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        while True:
            self.address = f"127.53.{random.randrange(256)}.{random.randrange(1, 255)}"
            try:
                self._socket.bind((self.address, 53))
            except OSError:
                continue
            break
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (self.address, 53))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            if not question:
                return
            if answer := self._answer(question):
                self._socket.sendto(answer, asker)

    def _answer(self, question: bytes) -> bytes:
        labels, place = [], 12
        while length := question[place]:
            labels.append(question[place + 1 : place + 1 + length].decode())
            place += length + 1
        end = place + 5
        (kind,) = struct.unpack_from("!H", question, place + 1)
        name = ".".join(labels)
        self.asked.append(name)
        code = CODES[self.way]
        if code is None:
            return b""
        if not code and name not in self.known:
            code = CODES["no such name"]
        has_address = not code and kind == _A
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, int(has_address), 0, 0)
        record = b""
        if has_address:  # the name of the question, class IN, to be kept for no time
            record = struct.pack("!HHHIH", 0xC00C, _A, 1, 0, 4)
            record += socket.inet_aton(self.known[name])
        return head + question[12:end] + record


class OwnNames:
    """The files `hosts` and `resolv.conf` of some commands; `before` begins each of them."""

    def __init__(self, folder: Path, server: NameServer) -> None:
        folder.mkdir(exist_ok=True)
        self._hosts, self._resolver = folder / "hosts", folder / "resolv.conf"
        self._resolver.write_text(f"nameserver {server.address}\n")
        self.know("127.0.0.1 localhost\n")

    def know(self, hosts: str) -> None:
        """Change the hosts file, where it is: the commands see it at once."""
        self._hosts.write_text(hosts)

    @property
    def before(self) -> list[str]:
        files = [str(self._hosts), str(self._resolver)]
        return ["unshare", "--mount", "sh", "-c", _SCRIPT, *files]
