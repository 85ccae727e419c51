"""Proxies: the real client behind trusted ones, and the address under which it reaches us."""

import pytest

from appliance.api.http import head
from appliance.api.http.proxies import Origin, Proxies, plain
from appliance.config.parsers import PublicUrl, networks

TRUSTED = networks("127.0.0.1, 10.0.0.0/8, fd00::/8")


def head_of(*headers):
    return head.parse(b"\r\n".join([b"GET / HTTP/1.1", *headers, b"", b""]))


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ([], "127.0.0.1"),
        ([b"X-Forwarded-For: 9.9.9.9"], "9.9.9.9"),
        ([b"X-Forwarded-For: 1.1.1.1, 9.9.9.9"], "9.9.9.9"),  # the first was written by the client
        ([b"X-Forwarded-For: 9.9.9.9, 10.1.2.3"], "9.9.9.9"),
        ([b"X-Forwarded-For: 9.9.9.9", b"X-Forwarded-For: 10.1.2.3"], "9.9.9.9"),
        ([b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-For: 9.9.9.9,10.1.2.3"], "9.9.9.9"),
        ([b"X-Forwarded-For: 10.1.2.3"], "10.1.2.3"),
        ([b"X-Forwarded-For: 9.9.9.9:4711"], "9.9.9.9"),
        ([b"X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
        ([b"X-Forwarded-For: 2001:DB8:0::1"], "2001:db8::1"),
        ([b"X-Forwarded-For: [2001:db8::1]:4711"], "2001:db8::1"),
        ([b"X-Forwarded-For: 9.9.9.9, fd00::7"], "9.9.9.9"),
        ([b"X-Forwarded-For: ::ffff:9.9.9.9"], "9.9.9.9"),
        ([b"X-Forwarded-For: 9.9.9.9, unknown"], "127.0.0.1"),
        ([b"X-Forwarded-For: 9.9.9.9, unknown, 10.1.2.3"], "10.1.2.3"),
        ([b"X-Forwarded-For: 9.9.9.9,"], "127.0.0.1"),
        ([b"X-Forwarded-For: <script>"], "127.0.0.1"),
        ([b"X-Forwarded-For: 999.1.1.1"], "127.0.0.1"),
        ([b"X-Forwarded-For:"], "127.0.0.1"),
        ([b"X-Forwarded-For: \xff"], "127.0.0.1"),
        ([b"X-Forwarded-For: 9.9.9.9" + b",10.0.0.1" * 3000], "10.0.0.1"),
        ([b"Forwarded: for=9.9.9.9;proto=https;by=10.0.0.1"], "9.9.9.9"),
        ([b'Forwarded: for="[2001:db8::1]:4711", For=10.0.0.1'], "2001:db8::1"),
        ([b"Forwarded: for=_hidden"], "127.0.0.1"),
        ([b"Forwarded: for=unknown, for=10.0.0.1"], "10.0.0.1"),
        ([b"Forwarded: nonsense;;;=,"], "127.0.0.1"),
        # A proxy that writes the one may pass on the other, as the client wrote it.
        ([b"Forwarded: for=1.1.1.1", b"X-Forwarded-For: 9.9.9.9"], "9.9.9.9"),
    ],
)
def test_client_is_the_last_one_that_is_no_trusted_proxy(headers, client):
    assert Proxies(TRUSTED).client("127.0.0.1", head_of(*headers)) == client


def test_only_the_networks_that_were_named_are_trusted():
    proxies = Proxies(TRUSTED)
    for peer, trusted in [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("10.255.0.1", True),
        ("fd12::1", True),
        ("::1", False),
        ("", False),
    ]:
        assert proxies.trust(peer) is trusted
        assert not Proxies().trust(peer)


def test_an_address_of_a_socket_of_both_families_is_shown_as_ipv4():
    assert plain("::ffff:10.0.0.1") == "10.0.0.1"
    assert plain("2001:db8::1") == "2001:db8::1"


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ([], ("http", "a.example", "")),
        ([b"X-Forwarded-Proto: https"], ("https", "a.example", "")),
        ([b"X-Forwarded-Proto: HTTPS, http"], ("https", "a.example", "")),
        ([b"X-Forwarded-Proto: javascript"], ("http", "a.example", "")),
        ([b"X-Forwarded-Host: b.example:8443"], ("http", "b.example:8443", "")),
        ([b"X-Forwarded-Host: b.example, c.example"], ("http", "b.example", "")),
        ([b"X-Forwarded-Host: <b>"], ("http", "", "")),
        ([b"X-Forwarded-Prefix: /inbox/"], ("http", "a.example", "/inbox")),
        ([b"X-Forwarded-Prefix: /a/b"], ("http", "a.example", "/a/b")),
        ([b"X-Forwarded-Prefix: /"], ("http", "a.example", "")),
        ([b"X-Forwarded-Prefix: //evil.example"], ("http", "a.example", "")),
        ([b"X-Forwarded-Prefix: /a//b"], ("http", "a.example", "")),
        ([b"X-Forwarded-Prefix: inbox"], ("http", "a.example", "")),
        ([b"X-Forwarded-Prefix: /a?b"], ("http", "a.example", "")),
        ([b"X-Forwarded-Prefix: /" + b"a" * 300], ("http", "a.example", "")),
        ([b"Forwarded: for=1.1.1.1;proto=https;host=b.example"], ("https", "b.example", "")),
    ],
)
def test_origin_is_what_a_trusted_proxy_says_where_that_can_stand_in_an_address(headers, origin):
    request_head = head_of(b"Host: a.example", *headers)
    found = Proxies(TRUSTED).origin(request_head, is_trusted=True, is_tls=False)
    assert found == Origin(*origin)
    others = Proxies(TRUSTED).origin(request_head, is_trusted=False, is_tls=True)
    assert others == Origin("https", "a.example", "")


def test_origin_is_the_public_address_where_one_is_set():
    proxies = Proxies(TRUSTED, PublicUrl("https", "inbox.example", "/in"))
    request_head = head_of(b"Host: a", b"X-Forwarded-Host: b", b"X-Forwarded-Prefix: /c")
    for is_trusted in (True, False):
        found = proxies.origin(request_head, is_trusted=is_trusted, is_tls=False)
        assert found.url == "https://inbox.example/in"
    assert proxies.prefix_of(request_head) == proxies.prefix == "/in"


def test_origin_without_a_host_is_the_prefix_alone():
    assert Origin("http", "", "/in").url == "/in"
