"""Signatures of webhooks: the published vectors, senders' own libraries, and hostile headers."""

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
import slack_sdk.signature
import standardwebhooks
import stripe
import svix
import twilio.request_validator
from hypothesis import given
from hypothesis import strategies as st

from appliance.auth.signatures import clocks, macs, standard
from appliance.auth.signatures import twilio as twilio_signature
from appliance.auth.signatures.header import HeaderScheme, check_template
from appliance.auth.signatures.kinds import KINDS
from appliance.auth.signatures.macs import Encoding
from appliance.auth.signatures.verdict import REASONS, Evidence, Verdict

NOW = 1_795_632_000.0
TOLERANCE = 300.0
HMAC = HeaderScheme(b"x-signature", template="{timestamp}.{body}", timestamp_header=b"x-timestamp")
SIGNED = {name: kind.check for name, kind in KINDS.items() if kind.check} | {"hmac": HMAC.verify}
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
    b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
    b"&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F"
    b"T1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO_FORM = (
    b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212"
    b"&Caller=%2B14158675309"
)
FORM = "application/x-www-form-urlencoded"


def evidence(body: bytes, url: str = "", **headers: str) -> Evidence:
    """Return a request; underscores in a header's name stand for dashes."""
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Evidence(named, body, url)


def github(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verdict(kind: str, request: Evidence, *secrets: str, now: float = NOW) -> Verdict:
    return SIGNED[kind](request, secrets, now, TOLERANCE)


# --- what the senders publish


def test_githubs_published_vector_is_verified():
    right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = evidence(b"Hello, World!", x_hub_signature_256=right)
    assert verdict("github", request, "It's a Secret to Everybody").is_verified
    assert verdict("github", request, "another").reason == "bad-signature"


def test_the_published_vector_of_standard_webhooks_is_verified():
    request = evidence(
        b'{"test": 2432232314}',
        webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        webhook_timestamp="1614265330",
        webhook_signature="v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    )
    assert verdict("standard", request, STANDARD_SECRET, now=1614265330).is_verified
    assert verdict("standard", request, STANDARD_SECRET[6:], now=1614265330).is_verified


def test_slacks_published_vector_is_verified():
    request = evidence(
        SLACK_BODY,
        x_slack_request_timestamp="1531420618",
        x_slack_signature="v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    )
    assert verdict("slack", request, SLACK_SECRET, now=1531420618).is_verified


def test_shopifys_signature_is_githubs_in_base64():
    code = base64.b64encode(
        bytes.fromhex("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
    ).decode()
    for name in ("x_shopify_hmac_sha256", "shopify_hmac_sha256"):
        request = evidence(b"Hello, World!", **{name: code})
        assert verdict("shopify", request, "It's a Secret to Everybody").is_verified


def test_twilios_published_vector_is_verified():
    request = evidence(
        TWILIO_FORM,
        TWILIO_URL,
        x_twilio_signature="RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        content_type=FORM,
    )
    assert verdict("twilio", request, "12345").is_verified
    elsewhere = request._replace(url="http://127.0.0.1:8080/myapp.php?foo=1&bar=2")
    refused = verdict("twilio", elsewhere, "12345")
    assert refused.reason == "bad-signature"
    assert "public_url" in refused.explanation


# --- what the senders' own libraries sign


def test_the_library_of_standard_webhooks_signs_what_is_verified_under_both_families_of_names():
    body, at = '{"a":"ö"}', int(NOW)
    library = standardwebhooks.Webhook(STANDARD_SECRET)
    code = library.sign("msg_1", datetime.fromtimestamp(at, UTC), body)
    for family in ("webhook", "svix"):
        names = {f"{family}_id": "msg_1", f"{family}_timestamp": str(at)}
        request = evidence(body.encode(), **names, **{f"{family}_signature": code})
        assert verdict("standard", request, STANDARD_SECRET).is_verified
    assert (
        svix.Webhook(STANDARD_SECRET).sign("msg_1", datetime.fromtimestamp(at, UTC), body) == code
    )


def test_stripes_library_signs_what_is_verified():
    body, secret = '{"id":"evt_1"}', "whsec_stripes_own"
    value = stripe.WebhookSignature.generate_signature_header(body, secret, int(NOW))
    request = evidence(body.encode(), stripe_signature=value)
    assert verdict("stripe", request, secret).is_verified
    assert verdict("stripe", request, "whsec_other").reason == "bad-signature"


def test_slacks_library_signs_what_is_verified():
    at = str(int(NOW))
    code = slack_sdk.signature.SignatureVerifier(SLACK_SECRET).generate_signature(
        timestamp=at, body=b"payload=%7B%7D"
    )
    assert code
    request = evidence(b"payload=%7B%7D", x_slack_request_timestamp=at, x_slack_signature=code)
    assert verdict("slack", request, SLACK_SECRET).is_verified


@pytest.mark.parametrize("url", ["https://example.com/in/x", "https://example.com:443/in/x?a=1"])
@pytest.mark.parametrize("algorithm", ["HMAC_SHA1", "HMAC_SHA256"])
def test_twilios_library_signs_what_is_verified_with_and_without_the_port(url, algorithm):
    fields = {"Body": "Hällo & wörld", "From": "+4930", "Empty": ""}
    validator = twilio.request_validator.RequestValidator("12345")
    code = validator.compute_signature(url, fields, algorithm)
    request = evidence(
        b"Body=H%C3%A4llo+%26+w%C3%B6rld&From=%2B4930&Empty=",
        url.replace(":443", ""),
        x_twilio_signature=code,
        x_twilio_webhooks_signature_settings=f"key=k,algorithm={algorithm}",
        content_type=FORM + "; charset=utf-8",
    )
    assert verdict("twilio", request, "12345").is_verified


def test_a_json_body_of_twilios_is_verified_by_its_hash_in_the_address():
    body = b'{"a":1}'
    url = f"https://example.com/in/x?bodySHA256={hashlib.sha256(body).hexdigest()}"
    code = twilio.request_validator.RequestValidator("12345").compute_signature(url, {})
    request = evidence(body, url, x_twilio_signature=code, content_type="application/json")
    assert verdict("twilio", request, "12345").is_verified
    changed = request._replace(body=b'{"a":2}')
    assert verdict("twilio", changed, "12345").reason == "bad-signature"


def test_a_body_of_twilios_that_is_no_form_and_has_no_hash_is_not_taken_for_signed():
    url = "https://example.com/in/x"
    code = twilio.request_validator.RequestValidator("12345").compute_signature(url, {})
    request = evidence(b"anything", url, x_twilio_signature=code, content_type="text/plain")
    assert verdict("twilio", request, "12345").reason == "bad-signature"


# --- rules of all


def signed(kind: str, body: bytes = b'{"id":"1"}', at: int = int(NOW)) -> tuple[Evidence, str]:
    """Return a request of this kind that is signed right, and the secret."""
    text, moment = body.decode(), datetime.fromtimestamp(at, UTC)
    if kind == "github":
        return evidence(body, x_hub_signature_256=github(body, "s")), "s"
    if kind == "stripe":
        value = stripe.WebhookSignature.generate_signature_header(text, "s", at)
        return evidence(body, stripe_signature=value), "s"
    if kind == "slack":
        code = slack_sdk.signature.SignatureVerifier("s").generate_signature(
            timestamp=str(at), body=body
        )
        return evidence(body, x_slack_request_timestamp=str(at), x_slack_signature=str(code)), "s"
    if kind == "shopify":
        code = base64.b64encode(hmac.digest(b"s", body, "sha256")).decode()
        return evidence(body, x_shopify_hmac_sha256=code), "s"
    if kind == "twilio":
        url = f"https://example.com/in/x?bodySHA256={hashlib.sha256(body).hexdigest()}"
        code = twilio.request_validator.RequestValidator("s").compute_signature(url, {})
        return evidence(body, url, x_twilio_signature=code), "s"
    if kind == "standard":
        code = standardwebhooks.Webhook(STANDARD_SECRET).sign("m", moment, text)
        names = {"webhook_id": "m", "webhook_timestamp": str(at)}
        return evidence(body, **names, webhook_signature=code), STANDARD_SECRET
    code = hmac.new(b"s", f"{at}.{text}".encode(), hashlib.sha256).hexdigest()
    return evidence(body, x_signature=code, x_timestamp=str(at)), "s"


@pytest.mark.parametrize("kind", SIGNED)
def test_a_request_is_verified_by_any_of_several_secrets(kind):
    request, secret = signed(kind)
    assert verdict(kind, request, secret).is_verified
    assert verdict(kind, request, "b3RoZXI=", secret).is_verified
    assert verdict(kind, request, secret, "b3RoZXI=").is_verified
    assert verdict(kind, request, "b3RoZXI=").reason == "bad-signature"
    assert verdict(kind, request).reason == "bad-signature"


@pytest.mark.parametrize("kind", SIGNED)
def test_a_changed_body_is_a_bad_signature(kind):
    request, secret = signed(kind)
    changed = request._replace(body=request.body + b" ")
    assert verdict(kind, changed, secret).reason == "bad-signature"


@pytest.mark.parametrize("kind", SIGNED)
def test_a_request_without_signature_is_told_the_header_that_is_missing(kind):
    _, secret = signed(kind)
    answer = verdict(kind, evidence(b"x"), secret)
    assert answer.reason == "no-signature"
    assert "is missing" in answer.explanation


@pytest.mark.parametrize("kind", SIGNED)
def test_a_body_that_is_no_text_is_verified_by_its_bytes(kind):
    body = b"\xff\x00\xfe"
    request, secret = signed(kind)
    if kind == "standard":
        key = standard.key_of(secret)
        code = base64.b64encode(hmac.digest(key, b"m.%d.%b" % (NOW, body), "sha256"))
        headers = {**request.headers, b"webhook-signature": b"v1," + code}
    elif kind == "stripe":
        code = hmac.new(b"s", b"%d.%b" % (NOW, body), hashlib.sha256).hexdigest()
        headers = {b"stripe-signature": b"t=%d,v1=%b" % (NOW, code.encode())}
    elif kind == "github":
        headers = {b"x-hub-signature-256": github(body, "s").encode()}
    elif kind == "shopify":
        code = base64.b64encode(hmac.digest(b"s", body, "sha256"))
        headers = {b"x-shopify-hmac-sha256": code}
    elif kind == "slack":
        code = hmac.new(b"s", b"v0:%d:%b" % (NOW, body), hashlib.sha256).hexdigest()
        headers = {**request.headers, b"x-slack-signature": b"v0=" + code.encode()}
    elif kind == "twilio":
        url = f"https://example.com/in/x?bodySHA256={hashlib.sha256(body).hexdigest()}"
        code = twilio.request_validator.RequestValidator("s").compute_signature(url, {})
        headers = {b"x-twilio-signature": code.encode()}
        request = request._replace(url=url)
    else:
        code = hmac.new(b"s", b"%d.%b" % (NOW, body), hashlib.sha256).hexdigest()
        headers = {**request.headers, b"x-signature": code.encode()}
    assert verdict(kind, request._replace(headers=headers, body=body), secret).is_verified


@pytest.mark.parametrize("kind", ["stripe", "slack", "standard", "hmac"])
def test_a_signed_time_holds_for_the_tolerance_in_both_directions(kind):
    request, secret = signed(kind)
    assert verdict(kind, request, secret, now=NOW + 300).is_verified
    assert verdict(kind, request, secret, now=NOW - 300).is_verified
    assert verdict(kind, request, secret, now=NOW + 302).reason == "too-old"
    assert verdict(kind, request, secret, now=NOW - 302).reason == "too-new"


def test_a_wrong_signature_is_that_whatever_its_time():
    request, _ = signed("stripe")
    assert verdict("stripe", request, "other", now=NOW + 9999).reason == "bad-signature"


def test_stripes_header_can_have_several_codes_and_other_versions():
    request, secret = signed("stripe")
    code = request.headers[b"stripe-signature"]
    header = code.replace(b"v1=", b"v0=abc,v1=" + b"00" * 32 + b", v1=")
    assert verdict(
        "stripe", Evidence({b"stripe-signature": header}, request.body), secret
    ).is_verified


def test_standard_webhooks_can_have_several_codes_and_other_versions():
    request, secret = signed("standard")
    value = (
        b"v1a,AAAA v1," + base64.b64encode(bytes(32)) + b" " + request.headers[b"webhook-signature"]
    )
    headers = {**request.headers, b"webhook-signature": value}
    assert verdict("standard", Evidence(headers, request.body), secret).is_verified


def test_signatures_beyond_the_first_are_bounded_in_number():
    request, secret = signed("stripe")
    right = request.headers[b"stripe-signature"].partition(b",")[2]
    header = b"t=%d," % NOW + b"v1=00," * 20 + right
    wide = Evidence({b"stripe-signature": header}, request.body)
    assert verdict("stripe", wide, secret).reason == "bad-signature"


@pytest.mark.parametrize(
    ("encoding", "write"),
    [
        (Encoding.HEX, lambda code: code.hex().encode()),
        (Encoding.HEX, lambda code: code.hex().upper().encode()),
        (Encoding.BASE64, base64.b64encode),
        (Encoding.BASE64, lambda code: base64.b64encode(code).rstrip(b"=")),
        (Encoding.BASE64URL, base64.urlsafe_b64encode),
    ],
)
@pytest.mark.parametrize("algorithm", macs.HASHES)
def test_an_hmac_in_each_encoding_and_hash_is_verified(encoding, write, algorithm):
    scheme = HeaderScheme(b"x-sig", b"pre ", encoding, algorithm)
    code = write(hmac.digest(b"s", b"body", algorithm))
    request = Evidence({b"x-sig": b"pre " + code}, b"body")
    assert scheme.verify(request, ["s"], NOW, TOLERANCE).is_verified
    bare = Evidence({b"x-sig": code}, b"body")
    assert scheme.verify(bare, ["s"], NOW, TOLERANCE).reason == "bad-signature"


def test_an_hmac_can_be_of_the_address_too():
    scheme = HeaderScheme(b"x-sig", encoding=Encoding.BASE64, template="{url}{body}")
    code = base64.b64encode(hmac.digest(b"s", b"https://example.com/in/xbody", "sha256"))
    request = Evidence({b"x-sig": code}, b"body", "https://example.com/in/x")
    assert scheme.verify(request, ["s"], NOW, TOLERANCE).is_verified


def test_a_secret_can_stand_for_other_bytes():
    scheme = HeaderScheme(b"x-sig", secret_encoding=Encoding.HEX)
    code = hmac.new(b"\x01\x02", b"body", hashlib.sha256).hexdigest().encode()
    assert scheme.verify(Evidence({b"x-sig": code}, b"body"), ["0102"], NOW, 1).is_verified
    assert scheme.key("no hex") is None


@pytest.mark.parametrize(
    ("template", "has_timestamp"),
    [("", False), ("{timestamp}", True), ("{body}{body}", False), ("{body}{secret}", False),
     ("{body}", True), ("{timestamp}{body}", False)],
)  # fmt: skip
def test_a_template_that_leaves_something_unsigned_is_refused(template, has_timestamp):
    with pytest.raises(ValueError, match=r"must have|knows no|go together"):
        check_template(template, has_timestamp=has_timestamp)


def test_a_unix_time_is_read_in_seconds_and_milliseconds():
    assert clocks.parse(b"1795632000") == NOW
    assert clocks.parse(b"1795632000000") == NOW
    for text in (b"", b"-1", b"1e9", b"\xb2", b"9" * 17, b" 1"):
        assert clocks.parse(text) is None


# --- hostile input

ANY_BYTES = st.binary(max_size=300)
NAMES = sorted({
    b"x-hub-signature-256", b"stripe-signature", b"x-slack-signature", b"content-type",
    b"x-slack-request-timestamp", b"x-shopify-hmac-sha256", b"x-twilio-signature", b"webhook-id",
    b"x-twilio-webhooks-signature-settings", b"webhook-timestamp", b"webhook-signature",
    b"svix-id", b"svix-timestamp", b"svix-signature", b"x-signature", b"x-timestamp",
})  # fmt: skip
LIKELY = st.sampled_from(
    [b"", b"sha256=", b"v0=00", b"v1,", b"v1", b",", b" ", b"t=,v1=", b"t=1,v1=\xff", b"=====",
     b"sha256=" + b"0" * 63, b"1531420618", b"-1", b"t=1,t=2,v1=00", b"v1,AAA v1,!!", b"\x00",
     b"application/x-www-form-urlencoded", b"algorithm=MD5", b"algorithm=", b"9" * 400]
)  # fmt: skip
VALUES = st.one_of(ANY_BYTES, LIKELY)


@given(
    headers=st.dictionaries(st.sampled_from(NAMES), VALUES),
    body=ANY_BYTES,
    url=st.text(max_size=100),
    secret=st.text(max_size=40),
)
def test_a_strangers_request_gets_a_verdict_and_is_never_verified(headers, body, url, secret):
    for check in SIGNED.values():
        answer = check(Evidence(headers, body, url), [secret, "whsec_AAAA"], NOW, TOLERANCE)
        assert answer.reason in REASONS
        assert answer.explanation


@given(kind=st.sampled_from(sorted(SIGNED)), name=st.sampled_from(NAMES), value=VALUES)
def test_a_garbled_header_of_a_signed_request_never_raises(kind, name, value):
    request, secret = signed(kind)
    verdict(kind, request._replace(headers={**request.headers, name: value}), secret)


@pytest.mark.parametrize("kind", SIGNED)
@pytest.mark.parametrize("unit", [b"v1=00,", b"v1,AAAA ", b"a=", b",", b" ", b"\xff", b"t=1,"])
def test_a_huge_header_costs_little(kind, unit):
    request, secret = signed(kind)
    huge = (unit * 16000)[:32000]
    started = time.process_time()
    for name in request.headers:
        answer = verdict(kind, request._replace(headers={**request.headers, name: huge}), secret)
        assert not answer.is_verified
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize("body", [b"&" * 2**20, b"a=1&" * 2**18, b"%" * 2**20, b"a" * 2**20])
def test_a_huge_form_of_twilios_is_refused_soon(body):
    started = time.process_time()
    request = evidence(body, TWILIO_URL, x_twilio_signature="AAAA", content_type=FORM)
    assert twilio_signature.verify(request, ["s"], NOW, TOLERANCE).reason == "bad-signature"
    assert time.process_time() - started < 0.5


def test_a_verdict_never_holds_a_secret_or_the_right_signature():
    for kind in SIGNED:
        request, _ = signed(kind)
        secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
        for answer in (verdict(kind, request, secret), verdict(kind, evidence(b"x"), secret)):
            assert "c2Vj" not in answer.explanation
            for value in request.headers.values():
                assert value.decode()[2:] not in answer.explanation or len(value) < 10


# --- what we sign


def test_messages_that_we_sign_are_verified_by_the_senders_own_libraries_and_by_us():
    secrets = [standard.new_secret(), standard.new_secret()]
    body = '{"gr\u00fc\u00dfe": 1}'.encode()
    signed_at = int(time.time())
    headers = standard.sign(secrets, "018f-1", signed_at, body)
    for secret in secrets:  # a receiver has one of them
        assert standardwebhooks.Webhook(secret).verify(body, headers) == {"gr\u00fc\u00dfe": 1}
        svix.Webhook(secret).verify(body, headers)  # it raises where it isn't right
        seen = Evidence({k.encode(): v.encode() for k, v in headers.items()}, body)
        assert standard.verify(seen, [secret], signed_at, TOLERANCE).is_verified
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secrets[0]).verify(body + b" ", headers)
    with pytest.raises(svix.WebhookVerificationError):
        svix.Webhook(secrets[0]).verify(body + b" ", headers)
    with pytest.raises(ValueError, match="whsec_"):
        standard.sign(["no base64!"], "018f-1", signed_at, body)


def test_new_secrets_differ_and_have_256_bits():
    secrets = {standard.new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(standard.key_of(secret)) for secret in secrets} == {32}
