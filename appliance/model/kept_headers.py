"""Headers that belong to a message: its kind, its maker, the number of the try. Pure.

They are kept beside it, and go with it when it is sent again.
"""

from typing import Final

#: Headers that say what a message is, who made it or which try it is.
TELLING_NAMES: Final = frozenset({
    "idempotency-key", "x-idempotency-key", "webhook-id", "webhook-timestamp", "webhook-signature",
    "stripe-signature", "paypal-transmission-id", "paypal-transmission-sig",
    "paypal-transmission-time", "paypal-cert-url", "paypal-auth-algo", "traceparent", "tracestate",
    "baggage", "x-request-id", "x-correlation-id", "x-request-uuid", "x-b3-traceid", "x-event-key",
    "x-hook-uuid", "x-attempt-number", "x-retry-count", "x-original-filename", "content-language",
    "content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input",
    "aeg-event-type", "aeg-subscription-name", "aeg-delivery-count", "sentry-hook-resource",
    "sentry-hook-signature", "sentry-hook-timestamp", "linear-delivery", "linear-event",
    "linear-signature", "x-signature", "x-signature-256", "x-signature-timestamp",
    "x-signature-ed25519", "x-webhook-id", "x-webhook-event", "x-webhook-signature",
    "x-event-type", "x-event-id", "x-delivery-id", "x-topic",
})  # fmt: skip
#: The same, by how the names begin.
TELLING_PREFIXES: Final = (
    "ce-", "svix-", "x-github-", "x-hub-signature", "x-gitlab-event", "x-gitlab-instance",
    "x-gitlab-webhook-uuid", "x-gitea-", "x-gogs-", "x-forgejo-", "x-shopify-", "x-slack-",
    "x-twilio-", "i-twilio-", "x-amz-sns-", "x-goog-", "x-wc-webhook-", "x-square-", "x-zm-",
    "x-line-", "x-pagerduty-", "x-postmark-", "x-mailgun-", "x-sendgrid-",
    "x-twilio-email-event-webhook-", "x-discord-", "x-fb-", "x-cloudevents-", "x-atlassian-",
)  # fmt: skip
#: Headers whose value is an idempotency key at a topic's address; the first that is there counts.
KEY_HEADERS: Final = ("idempotency-key", "webhook-id", "x-github-delivery")


def is_telling(name: str) -> bool:
    """Whether a header, its name in lower case, is kept wherever a message comes in."""
    return name in TELLING_NAMES or name.startswith(TELLING_PREFIXES)
