"""The webhook: sends news of alerts to the URL that the operator has set.

Only that address is asked: a redirect is not followed, and no more of an answer is read than its
status. The body is what Slack's, Mattermost's and Rocket.Chat's incoming webhooks take (`text`),
with members for programs beside it.
"""

import http.client
import json
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from appliance.alerts.alert_book import AlertNews
from appliance.errors import UndeliveredError

#: Seconds for the whole of a request: an alert must not keep the next look waiting.
_SECONDS: Final = 5.0


def send(url: str, news: AlertNews, version: str) -> None:
    """Send news to a webhook. Raises UndeliveredError."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, parts.port, timeout=_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=_SECONDS)
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"queue-appliance/{version}",
        "Idempotency-Key": f"{news.alert.key} {news.at}",
    }
    try:
        connection.request("POST", target, body(news), headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise UndeliveredError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if status in (408, 425, 429) or status >= 500:
        raise UndeliveredError(f"status {status}")
    if not 200 <= status < 300:
        raise UndeliveredError(f"status {status}", is_final=True)


def body(news: AlertNews) -> bytes:
    """Return the JSON of news."""
    alert = news.alert
    about = f" {alert.subject}" if alert.subject else ""
    state = "over" if news.is_over else "raised"
    said = f"Over: {alert.kind}{about}" if news.is_over else f"Alert: {alert.kind}{about}"
    text = f"{said} on {socket.gethostname()}: {alert.text}"
    members = {
        "text": text,
        "type": f"alert.{state}",
        "alert": alert.kind,
        "subject": alert.subject,
        "detail": alert.text,
        "host": socket.gethostname(),
        "since": alert.since,
        "at": news.at,
    }
    return json.dumps(members).encode()
