"""POST /in/{secret}: messages of senders that can't send a token, served on the event loop.

The secret in the address finds the inbox, the signature is the login. Neither is logged, nor in an
answer. An address that is not known, was revoked or never existed gets one and the same 404.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson
import structlog

from appliance.api.bodies.bad_lines import BadLine
from appliance.api.bodies.decoding import Decoded, Part
from appliance.api.bodies.plan import SINGLE, BodyPlan, Form
from appliance.api.http import problems
from appliance.api.http.head import Head
from appliance.api.http.problems import Problem
from appliance.api.http.request import Admission, Request
from appliance.api.inbox import challenges, event_keys, inbox_answers
from appliance.api.inbox.refusals import RefusalLog
from appliance.api.publish import publish_options
from appliance.api.publish.intake import Intake
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.request_meta import RequestMeta
from appliance.api.quarantine.reasons import BAD_FORM
from appliance.api.slow_refusal import PAUSE_SECONDS
from appliance.auth import inbox_settings
from appliance.auth.authorizer import Authorizer
from appliance.auth.inbox_settings import InboxRules
from appliance.auth.signatures.verdict import VERIFIED, Evidence, Verdict
from appliance.auth.snapshot import Inbox
from appliance.config import Config
from appliance.errors import ApplianceError, InputError, QuarantineFullError, StoreError

_PREFIX: Final = "/in/"
_TAKING: Final = (b"POST", b"PUT")
_JSON: Final = "application/json"
_LOOKING: Final = (b"GET", b"HEAD", b"OPTIONS")
#: Bytes of a body whose signature is checked at once; a larger one would hold all other requests
#: for more than a tenth of a millisecond, so a thread checks it.
_CHECKED_AT_ONCE: Final = 64 * 1024
#: Headers by which a body is read that is checked again.
_HOW_WRITTEN: Final = ("content-encoding",)
#: Characters of an error that is kept.
_ERROR_LENGTH: Final = 300
#: Inboxes whose rules are kept ready.
_MOST_RULES: Final = 10_000
#: Parameters of a GET that is a message.
_MAX_PARAMETERS: Final = 100
#: The words of every address that is not known.
_NOT_HERE: Final = "there is no inbox at this address"

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InboxRequest:
    """What is known of a request from its head: whose inbox, by which rules, how to publish it.

    `options` is None where the request brings no message. `comes_again` is whether a head of the
    same bytes is likely: not with a signature, or the id of an event.
    """

    inbox: Inbox
    rules: InboxRules
    options: PublishOptions | None
    comes_again: bool

    def with_values(self, values: Mapping[bytes, bytes]) -> "InboxRequest":
        """Return the same for other values of headers that the head has once each.

        None of them is a key: such a head does not come again.
        """
        if self.options is None:
            return self
        return replace(self, options=self.options.with_values(values))


class InboxRoute:
    """Takes messages in at inbox addresses."""

    body_seconds: Final = 60.0

    def __init__(self, config: Config, intake: Intake, authorizer: Authorizer) -> None:
        self._config = config
        self._intake = intake
        self._authorizer = authorizer
        self._refusals = RefusalLog()
        self._quarantined = RefusalLog(kept=True)
        self._rules: dict[str, tuple[Inbox, InboxRules]] = {}

    @staticmethod
    def serves(head: Head) -> bool:
        """Whether a request with this head is for this route."""
        return head.path.startswith(_PREFIX)

    def admit(self, head: Head) -> Admission | Problem:
        """Return what the head asks for, or why it gets nothing."""
        inbox = self._authorizer.inbox(head.path[len(_PREFIX) :].removesuffix("/"))
        if inbox is None:
            is_known = self._authorizer.is_loaded
            return problems.not_found(_NOT_HERE) if is_known else problems.not_yet()
        try:
            rules = self._rules_of(inbox)
        except StoreError as error:
            return problems.of(error)
        try:
            if head.method in _TAKING or _is_message(head, rules):
                options = self._options(head, inbox, rules)
            elif head.method in _LOOKING:
                options = None
            else:
                return problems.method_not_allowed(inbox_answers.METHODS.split(", "))
        except ApplianceError as error:
            return _for_browser(problems.of(error), head, rules)
        comes_again = rules.check is None and not event_keys.has_header(head, rules)
        details = InboxRequest(inbox, rules, options, comes_again)
        most = options.max_body_bytes if options and head.method in _TAKING else 0
        return Admission(self, inbox.principal, most, details)

    def handle(self, request: Request, body: bytes) -> None:
        """Answer a request, whose body is whole."""
        details: InboxRequest = request.admission.details
        head, rules = request.head, details.rules
        if details.options is not None:
            request.task(self._answer(request, details, details.options, body))
        elif head.method == b"OPTIONS":
            request.respond(*inbox_answers.of_options(head, rules))
        else:
            request.respond(*inbox_answers.of_get(head, rules))

    async def _answer(
        self, request: Request, details: InboxRequest, options: PublishOptions, body: bytes
    ) -> None:
        try:
            await self._take(request, details, options, body)
        except ApplianceError as error:
            request.refuse(_for_browser(problems.of(error), request.head, details.rules))

    async def _take(
        self, request: Request, details: InboxRequest, options: PublishOptions, body: bytes
    ) -> None:
        """Verify, keep and answer one message. Raises what `Intake.accept` raises."""
        head, rules, inbox = request.head, details.rules, details.inbox
        verdict = await self._verify(request, details, body)
        if not verdict.is_verified:
            if not await self._quarantine(request, details, options, body, verdict):
                await self._refuse(request, details, verdict)
            return
        if head.method not in _TAKING:
            decoded = Decoded([_message_of(head)], Part(_JSON))
        else:
            if check := challenges.of_post(head, body, rules, inbox.signing_secrets):
                request.respond(*inbox_answers.fixed(check, head, rules))
                return
            try:
                decoded = await self._intake.decode(options, body)
            except InputError as error:
                failed = Verdict(BAD_FORM, error.public)
                if not await self._quarantine(request, details, options, body, failed):
                    raise
                return
        document = decoded.bodies[0] if options.form in SINGLE else None
        key = event_keys.find(head, document, rules)
        if key:
            text = event_keys.scoped(inbox.name, key)
            options = replace(options, key=text, first_counts=key.is_senders)
        meta = options.around.text(
            request.client_address,
            inbox=inbox.name,
            verified=None if rules.check is None else True,
            event_id=key.text[: event_keys.MOST_SHOWN] if key and key.is_senders else None,
        )
        receipt = await self._intake.accept(options, decoded, meta)
        del body, decoded, document
        wait = options.wait_seconds
        receipt = await self._intake.stored(receipt, wait)
        request.respond(*inbox_answers.of_receipt(receipt, head, rules, wait, request.prefix))

    async def _quarantine(
        self,
        request: Request,
        details: InboxRequest,
        options: PublishOptions,
        body: bytes,
        verdict: Verdict,
    ) -> bool:
        """Keep a message that failed a check, where the inbox wants that; return whether it was.

        It is answered as one that was taken: its sender would not come again. Not where there is no
        room; then it is refused.
        """
        head, rules, inbox = request.head, details.rules, details.inbox
        if rules.settings.on_invalid != "quarantine" or head.method not in _TAKING or not body:
            return False
        is_verified = verdict.reason == BAD_FORM
        meta = options.around.text(
            request.client_address,
            inbox=inbox.name,
            verified=None if rules.check is None else is_verified,
        )
        error = verdict.explanation[:_ERROR_LENGTH]
        bad = BadLine(0, 0, verdict.reason, error, f"inbox {inbox.name}")
        try:
            receipt = await self._intake.quarantine(
                inbox.topic, body, bad, options.around.content_type, meta
            )
        except QuarantineFullError:
            return False
        self._quarantined.note(inbox.name, verdict, request.client_address)
        request.respond(*inbox_answers.of_receipt(receipt, head, rules, None, request.prefix))
        return True

    async def _verify(self, request: Request, details: InboxRequest, body: bytes) -> Verdict:
        rules, secrets = details.rules, details.inbox.signing_secrets
        if rules.check is None:
            return VERIFIED
        evidence = Evidence(request.head.values, body, _url(request, rules))
        arguments = evidence, secrets, time.time(), rules.tolerance
        if len(body) <= _CHECKED_AT_ONCE:
            return rules.check(*arguments)
        return await asyncio.to_thread(rules.check, *arguments)

    async def _refuse(self, request: Request, details: InboxRequest, verdict: Verdict) -> None:
        """Answer a message whose signature is not right: nothing of it is kept.

        An address that had many refusals waits for it.
        """
        address = request.client_address
        self._refusals.note(details.inbox.name, verdict, address)
        if self._authorizer.refusals.note(address, "bad-signature"):
            await asyncio.sleep(PAUSE_SECONDS)
        problem = problems.bad_signature(verdict.reason, verdict.explanation)
        request.refuse(_for_browser(problem, request.head, details.rules))

    def _options(self, head: Head, inbox: Inbox, rules: InboxRules) -> PublishOptions:
        keep = [name.decode("latin-1") for name in rules.kept_headers]
        evidence: tuple[str, ...] = ()
        if rules.settings.on_invalid == "quarantine":
            evidence = (*rules.signed_headers, *_HOW_WRITTEN)
        around = RequestMeta.of(
            head, inbox.principal, keep=keep, always=True, query=True, evidence=evidence
        )
        options = publish_options.read_at_inbox(head, inbox.topic, self._config, around)
        if head.method in _TAKING:
            return options
        return replace(options, plan=BodyPlan(Form.WHOLE, self._config.max_message_bytes))

    def _rules_of(self, inbox: Inbox) -> InboxRules:
        """Return the rules of an inbox, read again when something about inboxes has changed.

        Raises StoreError where somebody wrote settings by SQL that can't be read.
        """
        known = self._rules.get(inbox.name)
        if known is None or known[0] is not inbox:
            try:
                rules = inbox_settings.rules(inbox.kind, inbox.settings)
            except InputError as error:
                _log.error("inbox unusable", inbox=inbox.name, error=str(error))
                raise StoreError(
                    f"the inbox {inbox.name} has settings that can't be read"
                ) from error
            if len(self._rules) >= _MOST_RULES:
                self._rules.clear()
            self._rules[inbox.name] = known = inbox, rules
        return known[1]


def _is_message(head: Head, rules: InboxRules) -> bool:
    """Whether a request without a body is a message: a GET with a query, where that is allowed."""
    if not rules.settings.allow_get or head.method != b"GET" or not head.query:
        return False
    return not challenges.is_hub(head)


def _message_of(head: Head) -> bytes:
    """Return the query as a JSON object; a name that comes several times has a list."""
    try:
        pairs = parse_qsl(
            head.query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
        )
    except ValueError as error:
        raise InputError(f"a query has at most {_MAX_PARAMETERS} parameters") from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return orjson.dumps({name: each if each[1:] else each[0] for name, each in values.items()})


def _url(request: Request, rules: InboxRules) -> str:
    """Return the address of a request as its sender knows it, from what comes before /in/ on.

    A proxy may have cut off what comes before that, or left it there.
    """
    path, mark, query = request.head.target.decode("latin-1").partition("?")
    base = (rules.settings.public_url or request.origin.url).rstrip("/")
    return base + path[path.rfind(_PREFIX) :] + mark + query


def _for_browser(problem: Problem, head: Head, rules: InboxRules) -> Problem:
    headers = {**problem.headers, **inbox_answers.problem_headers(head, rules)}
    return replace(problem, headers=headers)
