"""Requests of those who send webhooks, signed by their own libraries where there is one."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

import standardwebhooks
import stripe
import svix.webhooks
from slack_sdk.signature import SignatureVerifier
from twilio.request_validator import RequestValidator


class Webhook(NamedTuple):
    """A request as it is sent."""

    headers: dict[str, str]
    body: bytes


class Event(NamedTuple):
    """Something that happened at a sender: its id, and what is told of it."""

    id: str
    body: bytes

    def again(self) -> "Event":
        """Return it as a sender tells it again: with a counter of attempts in the body."""
        return self._replace(body=json.dumps({**json.loads(self.body), "attempt": 2}).encode())


def event(**members: object) -> Event:
    """Return a new event; `members` are told of it."""
    name = f"evt_{uuid4().hex}"
    return Event(name, json.dumps({"id": name, "event_id": name, **members}).encode())


def github(secret: str, told: Event, url: str = "", at: float = 0, **headers: str) -> Webhook:
    code = hmac.new(secret.encode(), told.body, hashlib.sha256).hexdigest()
    return Webhook(
        {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/044aadd",
            "X-GitHub-Delivery": told.id,
            "X-GitHub-Event": "push",
            "X-GitHub-Hook-ID": "292430182",
            "X-Hub-Signature-256": f"sha256={code}",
            **headers,
        },
        told.body,
    )


def stripe_(secret: str, told: Event, url: str = "", at: float = 0) -> Webhook:
    signature = stripe.WebhookSignature.generate_signature_header(
        told.body.decode(), secret, int(at or time.time())
    )
    return Webhook(
        {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature,
        },
        told.body,
    )


def slack(secret: str, told: Event, url: str = "", at: float = 0) -> Webhook:
    timestamp = str(int(at or time.time()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=told.body)
    return Webhook(
        {
            "Content-Type": "application/json",
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature,
        },
        told.body,
    )


def shopify(secret: str, told: Event, url: str = "", at: float = 0) -> Webhook:
    code = base64.b64encode(hmac.digest(secret.encode(), told.body, "sha256")).decode()
    return Webhook(
        {
            "Content-Type": "application/json",
            "User-Agent": "Shopify-Captain-Hook",
            "X-Shopify-Hmac-Sha256": code,
            "X-Shopify-Shop-Domain": "example.myshopify.com",
            "X-Shopify-Topic": "orders/create",
            "X-Shopify-Webhook-Id": told.id,
        },
        told.body,
    )


def twilio(secret: str, told: Event, url: str = "", at: float = 0) -> Webhook:
    fields = {name: str(value) for name, value in json.loads(told.body).items()}
    return Webhook(
        {
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
            "User-Agent": "TwilioProxy/1.1",
            "I-Twilio-Idempotency-Token": told.id,
            "X-Twilio-Signature": RequestValidator(secret).compute_signature(url, fields),
        },
        urlencode(fields).encode(),
    )


def standard(secret: str, told: Event, url: str = "", at: float = 0) -> Webhook:
    moment = datetime.fromtimestamp(int(at or time.time()), UTC)
    return Webhook(
        {
            "Content-Type": "application/json",
            "webhook-id": told.id,
            "webhook-timestamp": str(int(moment.timestamp())),
            "webhook-signature": standardwebhooks.Webhook(secret).sign(
                told.id, moment, told.body.decode()
            ),
        },
        told.body,
    )


def svix_(secret: str, told: Event, url: str = "", at: float = 0) -> Webhook:
    moment = datetime.fromtimestamp(int(at or time.time()), UTC)
    return Webhook(
        {
            "Content-Type": "application/json",
            "User-Agent": "Svix-Webhooks/1.62",
            "svix-id": told.id,
            "svix-timestamp": str(int(moment.timestamp())),
            "svix-signature": svix.webhooks.Webhook(secret).sign(
                told.id, moment, told.body.decode()
            ),
        },
        told.body,
    )


class Sender(NamedTuple):
    """A sender: the kind of its addresses, how it signs, and a secret as it makes them."""

    kind: str
    sign: Callable[..., Webhook]
    secret: str


def _whsec(text: bytes) -> str:
    return f"whsec_{base64.b64encode(text).decode()}"


SENDERS = {
    "github": Sender("github", github, "It's a Secret to Everybody"),
    "stripe": Sender("stripe", stripe_, "whsec_8fKc2ExampleOfStripes"),
    "slack": Sender("slack", slack, "8f742231b10e8888abcd99yyyzzz85a5"),
    "shopify": Sender("shopify", shopify, "hush"),
    "twilio": Sender("twilio", twilio, "12345"),
    "standard": Sender("standard", standard, _whsec(b"standard webhooks' key 12")),
    "svix": Sender("standard", svix_, _whsec(b"svix' key of 24 bytes 123")),
}


def another(sender: Sender) -> str:
    """Return a secret of the same form that is not the sender's."""
    return _whsec(b"the key of somebody else") if sender.kind == "standard" else "another secret"
