"""The kinds of inbox addresses: how each sender signs, names its events, and wants to be answered.

Pure. Facts about senders that others publish, in one table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from appliance.auth.signatures import standard, stripe, twilio
from appliance.auth.signatures.header import HeaderScheme
from appliance.auth.signatures.macs import Encoding
from appliance.auth.signatures.verdict import Evidence, Verdict

#: Returns the verdict on a request, by these secrets, at this time, with this tolerance in seconds.
Check = Callable[[Evidence, Sequence[str], float, float], Verdict]


class FixedAnswer(NamedTuple):
    """What a sender is answered whatever came of its message, as long as it is kept."""

    status: int
    content_type: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class SenderKind:
    """What is known of one kind of sender.

    `check` is None where nothing is signed, and for `hmac`, where the address's settings say how.
    The sender's own id of an event is in one of the headers `key_headers`, or at `key_path` in the
    body. `kept_headers` are kept beside the message. `answer` is None where the usual one will do.
    `challenge` is the check of the address that the sender makes with a POST.
    """

    name: str
    help: str
    check: Check | None = None
    is_signed: bool = True
    signs_time: bool = False
    key_headers: tuple[bytes, ...] = ()
    key_path: str | None = None
    kept_headers: tuple[bytes, ...] = ()
    answer: FixedAnswer | None = None
    challenge: str | None = None


#: TwiML that does nothing: no answer to a text message, no word on a call.
_TWIML: Final = FixedAnswer(
    200, "text/xml", b'<?xml version="1.0" encoding="UTF-8"?><Response></Response>'
)
_GITHUB: Final = HeaderScheme(b"x-hub-signature-256", prefix=b"sha256=")
_SLACK: Final = HeaderScheme(
    b"x-slack-signature",
    prefix=b"v0=",
    template="v0:{timestamp}:{body}",
    timestamp_header=b"x-slack-request-timestamp",
)
_SHOPIFY: Final = HeaderScheme(
    b"x-shopify-hmac-sha256", encoding=Encoding.BASE64, also=b"shopify-hmac-sha256"
)
_GENERAL_KEYS: Final = (b"webhook-id", b"svix-id", b"x-github-delivery")

_TABLE: Final = (
    SenderKind(
        "github",
        "GitHub, Gitea and Forgejo: X-Hub-Signature-256",
        check=_GITHUB.verify,
        key_headers=(b"x-github-delivery",),
        kept_headers=(
            b"x-github-event",
            b"x-github-delivery",
            b"x-hub-signature-256",
            b"x-github-hook-id",
            b"x-github-hook-installation-target-id",
            b"x-github-hook-installation-target-type",
            b"x-github-enterprise-host",
        ),
    ),
    SenderKind(
        "stripe",
        "Stripe: Stripe-Signature",
        check=stripe.verify,
        signs_time=True,
        key_path="$.id",
        kept_headers=(b"stripe-signature",),
    ),
    SenderKind(
        "slack",
        "Slack: X-Slack-Signature, and its check of the address",
        check=_SLACK.verify,
        signs_time=True,
        key_path="$.event_id",
        kept_headers=(
            b"x-slack-signature",
            b"x-slack-request-timestamp",
            b"x-slack-retry-num",
            b"x-slack-retry-reason",
        ),
        # Of a slash command, Slack shows what is answered to whoever gave it.
        answer=FixedAnswer(200),
        challenge="slack",
    ),
    SenderKind(
        "shopify",
        "Shopify: X-Shopify-Hmac-Sha256",
        check=_SHOPIFY.verify,
        # Not the event's id: one event is sent to each subscription, with a body of its own.
        key_headers=(b"x-shopify-webhook-id", b"shopify-webhook-id"),
        kept_headers=(
            b"x-shopify-topic",
            b"x-shopify-shop-domain",
            b"x-shopify-webhook-id",
            b"x-shopify-event-id",
            b"x-shopify-triggered-at",
            b"x-shopify-api-version",
            b"x-shopify-hmac-sha256",
            b"x-shopify-test",
            b"shopify-topic",
            b"shopify-shop-domain",
            b"shopify-webhook-id",
            b"shopify-event-id",
            b"shopify-triggered-at",
            b"shopify-api-version",
            b"shopify-hmac-sha256",
        ),
        answer=FixedAnswer(200),
    ),
    SenderKind(
        "twilio",
        "Twilio: X-Twilio-Signature, answered with an empty TwiML",
        check=twilio.verify,
        key_headers=(b"i-twilio-idempotency-token",),
        kept_headers=(
            b"x-twilio-signature",
            b"x-twilio-webhooks-signature-settings",
            b"i-twilio-idempotency-token",
            b"x-home-region",
        ),
        answer=_TWIML,
    ),
    SenderKind(
        "standard",
        "Standard Webhooks and Svix: webhook-signature, svix-signature",
        check=standard.verify,
        signs_time=True,
        key_headers=(b"webhook-id", b"svix-id"),
        kept_headers=(
            b"webhook-id",
            b"webhook-timestamp",
            b"webhook-signature",
            b"svix-id",
            b"svix-timestamp",
            b"svix-signature",
        ),
    ),
    SenderKind(
        "hmac",
        "any other HMAC: the header, prefix, encoding and hash are settings",
        signs_time=True,
        key_headers=_GENERAL_KEYS,
        kept_headers=_GENERAL_KEYS,
    ),
    SenderKind(
        "form",
        "a form on a web page: answered with a page or a redirect",
        is_signed=False,
        key_headers=_GENERAL_KEYS,
    ),
    SenderKind(
        "open",
        "whoever knows the address",
        is_signed=False,
        key_headers=_GENERAL_KEYS,
        kept_headers=_GENERAL_KEYS,
    ),
)

KINDS: Final = {kind.name: kind for kind in _TABLE}
