"""MQTT clients: paho's, as many programs use it, and a mosquitto that bridges to the appliance."""

import subprocess
import threading
from pathlib import Path
from typing import Self

import paho.mqtt.client as paho
from harness import wait_until

#: Where Debian puts the server, which is not in everyone's PATH.
MOSQUITTO = "/usr/sbin/mosquitto"
SECONDS = 30.0


class MqttClient:
    """A client of MQTT 3.1.1 that reconnects by itself, as paho's do; `got` is what it received."""

    def __init__(self, port: int, user: str | None, password: str | None, **options) -> None:
        self._will = options.pop("will", None)
        self._host = options.pop("host", "127.0.0.1")
        self.got: list[bytes] = []
        self.ends: list[str] = []
        self.subscriptions: list[str] = []
        #: Packet identifiers of the messages that were acknowledged. (paho's own `is_published`
        #: raises for good for one that was given to it between two connections.)
        self.acknowledged: set[int] = set()
        self._known = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, **options)
        self.client.on_connect = self._connected
        self.client.on_disconnect = lambda *said: self.ends.append(str(said[3]))
        self.client.on_publish = lambda *said: self.acknowledged.add(said[2])
        self.client.on_message = lambda *said: self.got.append(said[2].payload)
        self.client.on_subscribe = lambda *said: self.subscriptions.extend(map(str, said[3]))
        self.client.reconnect_delay_set(1, 1)
        if user is not None:
            self.client.username_pw_set(user, password)
        if self._will is not None:
            self.client.will_set(*self._will)
        self.answer = ""
        self.port = port

    def __enter__(self) -> Self:
        self.client.connect(self._host, self.port)
        self.client.loop_start()
        assert self._known.wait(SECONDS), "no answer to the login"
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, body: bytes | str, qos: int = 1, **options) -> bool:
        """Publish; return whether it was acknowledged (or, with QoS 0, sent) within some time."""
        sent = self.client.publish(topic, body, qos, **options)
        wait_until(lambda: sent.is_published() or self.ends, "PUBACK, or the end", SECONDS)
        return sent.is_published()

    def cut(self) -> None:
        """Lose the connection, as a device does whose power fails."""
        self.client.loop_stop()
        self.client.socket().close()

    def _connected(self, *said: object) -> None:
        self.answer = str(said[3])
        self._known.set()


class Bridge:
    """Debian's mosquitto, with a bridge to the appliance; its configuration is that of the docs."""

    def __init__(self, folder: Path, configuration: str) -> None:
        path = folder / "mosquitto.conf"
        path.write_text(configuration)
        self.log = folder / "mosquitto.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", path], stdout=log, stderr=log)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)


def mosquitto_pub(port: int, *arguments: str) -> subprocess.CompletedProcess:
    """Run Debian's `mosquitto_pub`; wait until it has ended."""
    return subprocess.run(
        ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), *arguments],
        capture_output=True, check=False, timeout=SECONDS,
    )  # fmt: skip
