"""The settings of inbox addresses: what is taken, and what is refused in words."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.auth.inbox_settings import _READERS, InboxSettings, rules
from appliance.auth.signatures.kinds import KINDS
from appliance.auth.signatures.verdict import Evidence
from appliance.errors import InputError
from appliance.model.json_path import JsonPath

HMAC = {"header": "X-Signature"}
BOTH = "{timestamp}.{body}"


def needed(kind: str) -> dict[str, object]:
    """Return the least settings of a kind."""
    return dict(HMAC) if kind == "hmac" else {}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_needs_no_settings_but_hmac_its_header(kind):
    made = rules(kind, needed(kind))
    assert made.kind is KINDS[kind]
    assert (made.check is not None) is made.kind.is_signed
    if kind == "hmac":
        with pytest.raises(InputError, match=r"settings\.header"):
            rules(kind, {})


def test_every_setting_has_a_reader_and_every_reader_a_setting():
    assert set(_READERS) == set(InboxSettings.__slots__)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("gitlab", {}, "kind: expected one of github"),
        (None, {}, "kind: expected one of"),
        ("open", [], "settings: expected an object"),
        ("open", {"colour": 1}, "no such name 'colour'"),
        ("github", {"header": "x-sig"}, "settings.header: only the kind hmac"),
        ("hmac", {**HMAC, "header": "a b"}, "settings.header"),
        ("hmac", {**HMAC, "header": "a\r\nb"}, "settings.header"),
        ("hmac", {**HMAC, "hash": "md5"}, "settings.hash: expected one of sha256"),
        ("hmac", {**HMAC, "encoding": "rot13"}, "settings.encoding"),
        ("hmac", {**HMAC, "template": "{timestamp}"}, "settings.template: must have {body}"),
        ("hmac", {**HMAC, "template": "{body}{timestamp}"}, "settings.template"),
        ("hmac", {**HMAC, "timestamp_header": "x-time"}, "settings.template"),
        ("stripe", {"tolerance": 0}, "settings.tolerance"),
        ("stripe", {"tolerance": True}, "settings.tolerance"),
        ("stripe", {"tolerance": 10**9}, "settings.tolerance"),
        ("open", {"key_path": "id"}, "settings.key_path: expected a path such as"),
        ("open", {"keep": "x-a"}, "settings.keep"),
        ("open", {"keep": ["authorization"]}, "authorization is never kept"),
        ("open", {"keep": ["x-a"] * 33}, "settings.keep"),
        ("open", {"answer": {"status": 302}}, "settings.answer.status"),
        ("open", {"answer": {"status": 204, "body": "x"}}, "settings.answer.body"),
        ("open", {"answer": {"body": "x" * 4097}}, "settings.answer.body"),
        ("open", {"answer": {"body": "\ud800"}}, "settings.answer.body"),
        ("open", {"answer": {"content_type": "a\r\nb"}}, "settings.answer.content_type"),
        ("open", {"answer": {"location": "x"}}, "settings.answer"),
        ("open", {"redirect": "https://example.com"}, "only the kind form redirects"),
        ("form", {"redirect": "javascript:alert(1)"}, "settings.redirect"),
        ("form", {"redirect": "https://a\r\nset-cookie: x"}, "settings.redirect"),
        ("form", {"redirect": "https://a", "answer": {}}, "settings.redirect"),
        ("open", {"origins": ["https://Example.com"]}, "settings.origins"),
        ("open", {"origins": ["https://example.com/"]}, "settings.origins"),
        ("open", {"origins": ["https://a\r\n"]}, "settings.origins"),
        ("open", {"allow_get": "yes"}, "settings.allow_get"),
        ("open", {"rate": "fast"}, "settings.rate: expected requests in a time"),
        ("github", {"allow_get": True}, "a signed request is a POST"),
        ("open", {"challenge": "zoom"}, "settings.challenge"),
        ("open", {"on_invalid": "shrug"}, "settings.on_invalid"),
        ("twilio", {"public_url": "ftp://example.com"}, "settings.public_url"),
        ("twilio", {"public_url": "https://[broken"}, "settings.public_url"),
    ],
)
def test_a_wrong_setting_is_named(kind, settings, words):
    with pytest.raises(InputError) as caught:
        rules(kind, settings)
    assert words in str(caught.value)


def test_a_choice_of_the_address_comes_before_the_knowledge_of_its_kind():
    assert rules("stripe", {}).key_path.text == "$.id"
    chosen = rules("stripe", {"key_header": "X-Id", "keep": ["X-Till"], "answer": {"status": 204}})
    assert chosen.key_headers == (b"x-id",)
    assert chosen.key_path is None
    assert chosen.kept_headers == (b"stripe-signature", b"x-till", b"x-id")
    signed = rules("hmac", {"header": "X-Sig", "timestamp_header": "X-Time", "template": BOTH})
    assert {b"x-sig", b"x-time"} <= set(signed.kept_headers)
    assert chosen.answer.status == 204


def test_null_is_the_default_of_each_setting():
    assert rules("open", dict.fromkeys(_READERS)).settings == InboxSettings()


def test_secrets_are_checked_by_kind_and_never_repeated_in_words():
    with pytest.raises(InputError, match="checks no signature"):
        rules("open", {}).check_secrets(("abc",))
    with pytest.raises(InputError, match="needs the secret"):
        rules("github", {}).check_secrets(())
    with pytest.raises(InputError, match="at most 10"):
        rules("github", {}).check_secrets(("s",) * 11)
    for kind, settings, secret in (
        ("standard", {}, "not-base64!"),
        ("hmac", {**HMAC, "secret_encoding": "hex"}, "not-hex!"),
        ("github", {}, "two\nlines!"),
    ):
        with pytest.raises(InputError) as caught:
            rules(kind, settings).check_secrets((secret,))
        assert secret not in str(caught.value)
    assert rules("github", {}).check_secrets(("It's a Secret",)) == ("It's a Secret",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(kind=st.sampled_from(sorted(KINDS)), name=st.sampled_from(sorted(_READERS)), value=JSON)
def test_any_json_is_a_setting_or_refused_in_words(kind, name, value):
    made = None
    with contextlib.suppress(InputError):
        made = rules(kind, {**needed(kind), name: value})
    if made and made.check:
        made.check(Evidence({}, b""), ["s"], 0.0, made.tolerance)


# --- JSON paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.id", "evt"), ("$.data.items[1].sku", "b"), ('$["a name"]', 1), ("$.data.none", None),
        ("$.id.deeper", None), ("$.data.items[9]", None), ("$.data[0]", None), ("$[0]", None),
    ],
)  # fmt: skip
def test_a_path_finds_its_value_or_nothing(path, found):
    document = {"id": "evt", "data": {"items": [{"sku": "a"}, {"sku": "b"}]}, "a name": 1}
    assert JsonPath(path).find(document) == found


@pytest.mark.parametrize("path", ["", "$", "id", "$id", "$.", "$..a", "$[a]", "$.a b", "$.a" * 99])
def test_a_text_that_is_no_path_is_refused(path):
    with pytest.raises(ValueError, match="expected a path"):
        JsonPath(path)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_refused(text):
    with contextlib.suppress(ValueError):
        assert JsonPath(text).find([]) is None
