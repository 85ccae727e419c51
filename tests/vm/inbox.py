"""The appliance in the guest, as a client outside sees it."""

import json
import time
import uuid

import httpx
from guest import Guest

CREDENTIAL = "a-token-that-systemd-hands-over"
#: Seconds; emulated, everything takes ten times as long, and more on a machine that is busy.
PATIENCE = 480.0


class Inbox:
    """Publishes to the guest's forwarded port and reads from it."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{guest.forwarded}",
            headers={"Authorization": f"Bearer {CREDENTIAL}"},
            timeout=60,
        )

    def wait_ready(self) -> float:
        """Wait until a message sent now would be kept; seconds it took."""
        begin = time.monotonic()
        while True:
            try:
                if self._http.get("/readyz").status_code == 200:
                    return time.monotonic() - begin
            except httpx.TransportError:
                pass
            if time.monotonic() - begin > PATIENCE:
                journal = self._guest.run("journalctl", "--no-pager", "-n", "60", check=False)
                raise AssertionError(f"not ready within {PATIENCE:g} s:\n{journal}")
            time.sleep(0.5)

    def publish(self, topic: str, body: str) -> bool:
        """Send a message once; whether it was answered 202."""
        try:
            answer = self._http.post(
                f"/v1/topics/{topic}/messages",
                content=body,
                headers={"Idempotency-Key": uuid.uuid4().hex},
            )
        except httpx.TransportError:
            return False
        return answer.status_code == 202

    def bodies(self, topic: str) -> list[str]:
        """The bodies of a topic's rows, as they were stored: none before its first one is."""
        answer = self._http.get(f"/v1/topics/{topic}/messages", params={"format": "ndjson"})
        if answer.status_code == 404:
            return []
        assert answer.status_code == 200, answer.text
        return [json.loads(line)["body"] for line in answer.text.splitlines()][::-1]

    def wait_stored(self, topic: str, bodies: list[str]) -> list[str]:
        """Wait until all of `bodies` are rows; all rows of the topic."""
        end = time.monotonic() + PATIENCE
        while not set(bodies) <= set(found := self.bodies(topic)):
            missing = sorted(set(bodies) - set(found))
            assert time.monotonic() < end, f"{len(missing)} are missing, {missing[:5]} among them"
            time.sleep(0.5)
        return found

    def close(self) -> None:
        self._http.close()
