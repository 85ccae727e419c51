"""URLs of endpoints: what is taken, what is refused in words, and that the check meets the host."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.endpoint_url import LONGEST, EndpointUrl, read


@pytest.mark.parametrize(
    ("text", "parts", "authority"),
    [
        ("https://hooks.example.com/a/b?c=d%20e",
         ("https", "hooks.example.com", 443, "/a/b?c=d%20e"), "hooks.example.com"),
        ("HTTP://Example.COM", ("http", "example.com", 80, "/"), "example.com"),
        ("http://example.com.:8080?x", ("http", "example.com", 8080, "/?x"), "example.com:8080"),
        ("https://10.0.0.1:443/", ("https", "10.0.0.1", 443, "/"), "10.0.0.1"),
        ("https://[2001:DB8:0::1]:8443/x", ("https", "2001:db8::1", 8443, "/x"),
         "[2001:db8::1]:8443"),
        ("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443, "/"),
         "xn--bcher-kva.example"),
        ("http://my_service:9000/a//b;c", ("http", "my_service", 9000, "/a//b;c"),
         "my_service:9000"),
    ],
)  # fmt: skip
def test_urls_are_read_into_their_parts(text, parts, authority):
    url = read(text)
    assert url == EndpointUrl(*parts)
    assert url.authority == authority
    assert read(str(url)) == url


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with https"), ("ftp://a/", "begins with https"), ("//a/", "begins with https"),
        ("javascript:alert(1)", "begins with https"), ("https:/a", "begins with https"),
        ("https://", "needs a host"), ("https:///x", "needs a host"),
        ("https://:80/", "needs a host"),
        ("https://a:/", "needs a host"), ("https://a:x/", "needs a host"),
        ("https://a:1:2/", "needs a host"), ("https://[::1/", "needs a host"),
        ("https://u:p@a/", "no user"), ("https://u@a/", "no user"), ("https://a\\@b/", "ASCII"),
        ("https://a/#b", "no fragment"), ("https://a/#", "no fragment"), ("https://a/ b", "ASCII"),
        ("https://a/\r\nX: y", "begins with https|ASCII"),
        ("https://b\u00fccher.example/", "ASCII"),
        ("https://a/\u00fc", "ASCII"), ("https://a:0/", "port 0"), ("https://a:65536/", "65536"),
        ("https://a:25/", "port 25"), ("https://127.1/", "four numbers"),
        ("https://0x7f.1/", "four numbers"), ("https://2130706433/", "four numbers"),
        ("https://0x7f000001/", "four numbers"), ("https://0177.0.0.1/", "four numbers"),
        ("https://1.2.3.4.5/", "four numbers"), ("https://[::g]/", "needs a host"),
        ("https://[1::2::3]/", "IPv6"), ("https://-a.example/", "host's name"),
        ("https://a..b/", "host's name"), (f"https://{'a' * 64}.example/", "host's name"),
        ("https://a/%zz", "two hexadecimal"), ("https://a/" + "b" * LONGEST, "at most"),
    ],
)  # fmt: skip
def test_urls_that_programs_could_read_differently_are_refused_in_words(text, words):
    with pytest.raises(ValueError, match=words):
        read(text)


@given(st.text(max_size=60) | st.from_regex(r"https?://[!-~]{0,40}", fullmatch=True))
def test_any_text_is_refused_or_has_the_host_that_others_see(text):
    try:
        url = read(text)
    except ValueError:
        return
    seen = urlsplit(text)
    assert (seen.username, seen.password, seen.fragment) == (None, None, "")
    assert (seen.port or (443 if url.is_secure else 80)) == url.port
    if ":" not in url.host:
        assert seen.hostname.removesuffix(".") == url.host
