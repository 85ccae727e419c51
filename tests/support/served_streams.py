"""Streams of a real store on a real socket, without a broker: the writer stands for the worker."""

import asyncio
import contextlib
import json
import socket
import threading

import uvloop

from appliance.api.gate import Gate
from appliance.api.http.acceptor import Acceptor, listen
from appliance.api.http.proxies import Proxies
from appliance.api.http.wsgi import WsgiBridge
from appliance.api.inbox.inbox_route import InboxRoute
from appliance.api.open_addresses import OpenAddresses
from appliance.api.publish.route import PublishRoute
from appliance.api.stream.hub import StreamHub
from appliance.api.stream.stream_route import StreamRoute
from appliance.auth.authorizer import Authorizer
from appliance.config import Address
from appliance.config.parsers import networks
from appliance.model.tallies import StreamTally
from appliance.schemas.book import SchemaBook

TOKEN = "t" * 32


class ServedStreams:
    """Serves the streams of a store in a thread, until `stop`."""

    def __init__(self, config, store):
        self.authorizer = Authorizer(TOKEN)
        self.tally = StreamTally()
        self.hub = StreamHub(config.max_streams, store.follower, self.authorizer, self.tally)
        self._config = config
        self._listener = listen("test", Address("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.readers = []
        self._started = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()))
        self.thread.start()
        assert self._started.wait(10)

    async def _serve(self):
        application = WsgiBridge(None, 1)
        config = self._config
        gate = Gate(
            self.authorizer,
            OpenAddresses(application, application.ask),
            PublishRoute(config, None, SchemaBook(lambda: self.authorizer.snapshot.schemas)),
            InboxRoute(config, None, self.authorizer),
            StreamRoute(self.hub),
            application,
        )
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        acceptor = Acceptor(gate, Proxies(networks(""), None))
        self._started.set()
        stopping = asyncio.create_task(self._stop_hub())
        await acceptor.serve(self._listener, self._stop, 5)
        await stopping
        self.hub.close()

    async def _stop_hub(self):
        await self._stop.wait()
        self.hub.stop()

    def stop(self):
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._stop.set)
        self.thread.join(20)
        assert not self.thread.is_alive()

    def open(self, path="/v1/stream", token=TOKEN, *, buffer=None, **headers):
        self.readers.append(Reader(self.port, path, token, headers, buffer))
        return self.readers[-1]

    def clear(self):
        """Stop, and close what was opened."""
        self.stop()
        for reader in self.readers:
            reader.close()


class Reader:
    """One stream, read event by event; the parser is ours, so that every byte is looked at."""

    def __init__(self, port, path, token=TOKEN, headers=None, buffer=None):
        self.link = socket.socket()
        if buffer:
            self.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.link.settimeout(20)
        self.last_id = None
        self.rest = b""
        self.headers = {}
        lines = [f"GET {path} HTTP/1.1", "Host: x"]
        lines += [] if token is None else [f"Authorization: Bearer {token}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in (headers or {}).items()]
        self.file = self.link.makefile("rb")
        try:
            self.link.connect(("127.0.0.1", port))
            self.link.sendall("\r\n".join([*lines, "", ""]).encode())
            self._read_head()
        except (OSError, ValueError, IndexError):
            self.close()
            raise

    def _read_head(self):
        self.status = int(self.file.readline().split()[1])
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name] = value

    def body(self):
        """Return the body of an answer that is no stream."""
        return self.file.read(int(self.headers["content-length"]))

    def problem(self):
        return json.loads(self.body())

    def block(self):
        """Return the next block of lines, or None at the end; raises where it is broken off."""
        while b"\n\n" not in self.rest:
            size = self.file.readline()
            if not size:
                raise ConnectionError("the stream was broken off")
            if not int(size, 16):
                return None
            self.rest += self.file.read(int(size, 16))
            self.file.readline()
        block, _, self.rest = self.rest.partition(b"\n\n")
        return block

    def event(self):
        """Return the next event as (name, data); comments are passed over; None at the end."""
        while (block := self.block()) is not None:
            fields = {}
            for line in block.split(b"\n"):
                name, _, value = line.partition(b": ")
                fields[name.decode()] = value.decode()
            if "id" in fields:
                self.last_id = fields["id"]
            if "data" in fields:
                return fields.get("event", "message"), json.loads(fields["data"])
        return None

    def messages(self, count):
        """Return the next `count` whole messages."""
        found = []
        while len(found) < count:
            name, data = self.event()
            if name == "message":
                found.append(data)
        return found

    def frames(self, count):
        """Return the next frames, until they have told of `count` messages."""
        found = []
        while sum(each["n"] for each in found) < count:
            name, data = self.event()
            if name == "messages":
                found.append(data)
        return found

    def close(self):
        self.file.close()
        self.link.close()
