"""Heads of requests: where they end, what they say, and which of them are refused."""

import pytest

from appliance.api.http import head
from appliance.api.http.head import HeadError

LINE = b"POST /v1/topics/a/messages HTTP/1.1\r\n"


def parsed(*lines, first=LINE):
    return head.parse(first + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", -1),
        (b"GET / HTTP/1.1\r\n", -1),
        (b"GET / HTTP/1.1\r\n\r", -1),
        (b"GET / HTTP/1.1\r\n\r\n", 18),
        (b"GET / HTTP/1.1\n\nbody\r\n\r\n", 16),
        (b"GET / HTTP/1.1\r\nA: b\n\r\nbody", 23),
        (b"GET / HTTP/1.1\r\nA: b\r\n\nbody", 23),
    ],
)
def test_a_head_ends_with_its_first_empty_line(data, end):
    assert head.find_end(data, 0) == end
    assert head.find_end(data, max(0, end - 3)) == end


def test_a_head_says_method_path_query_and_headers():
    request = parsed(b"Host: x", b"A: b", b"a: c", first=b"GET /a%20b/%C3%A9?x=%41 HTTP/1.1\r\n")
    assert (request.method, request.version) == (b"GET", "1.1")
    assert (request.path, request.query) == ("/a b/\u00e9", b"x=%41")
    assert request.headers == [(b"host", b"x"), (b"a", b"b"), (b"a", b"c")]
    assert request.values[b"a"] == b"c"


@pytest.mark.parametrize("target", [b"http://h/a?b", b"//h/a", b"/a#b", b"/", b"/?"])
def test_a_target_of_any_form_has_a_path(target):
    assert parsed(first=b"GET %b HTTP/1.1\r\n" % target).path.startswith("/")


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([b"Content-Length: 5"], 5),
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length: " + b"9" * 18], 10**18 - 1),
        ([b"Transfer-Encoding: chunked"], None),
        ([b"Transfer-Encoding: Chunked "], None),
    ],
)
def test_the_length_of_a_body_is_as_its_head_says(headers, length):
    assert parsed(*headers).length == length


@pytest.mark.parametrize(
    ("line", "headers", "keeps"),
    [
        (LINE, [], True),
        (LINE, [b"Connection: keep-alive"], True),
        (LINE, [b"Connection: close"], False),
        (LINE, [b"Connection: te, Close"], False),
        (LINE, [b"Connection: te", b"Connection: close"], False),
        (LINE, [b"Connection: close", b"Connection: te"], False),
        (LINE, [b"Connection: closed"], True),
        (b"POST / HTTP/1.0\r\n", [b"Connection: keep-alive"], False),
    ],
)
def test_a_connection_is_kept_unless_its_client_asks_to_close_it(line, headers, keeps):
    assert parsed(*headers, first=line).keep_alive is keeps


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_upgrade_is_ignored(method):
    request = parsed(
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"Content-Length: 3",
        first=b"%b / HTTP/1.1\r\n" % method,
    )
    assert (request.method, request.length, request.keep_alive) == (method, 3, True)


def test_an_expectation_is_seen_in_any_case():
    assert parsed(b"Expect: 100-Continue").expects_continue
    assert not parsed(b"Expect: 200-ok").expects_continue


@pytest.mark.parametrize(
    "lines",
    [
        [b"POST / HTTP/1.1\n", b"Host: x\n", b"Content-Length: 5\n", b"\n"],
        [b"POST / HTTP/1.1\r\n", b"Host: x\n", b"A: b\r\n", b"Content-Length: 5\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\n", b"Host: x\r\n", b"Content-Length: 5\r\n", b"\r\n"],
    ],
)
def test_a_bare_lf_ends_a_line_where_it_is_unambiguous(lines):
    request = head.parse(b"".join(lines))
    assert request.length == 5
    assert (b"host", b"x") in request.headers


@pytest.mark.parametrize(
    "lines",
    [
        [b"POST / HTTP/1.1\r\n", b"A: b\n", b"Content-Length: 5\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\r\n", b"A: b\n", b"transfer-encoding : chunked\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\r\n", b"A: b\n", b"Transfer-Encoding: chunked\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\r\n", b"Content-Length: 5\n", b"A: b\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\r\n", b"Content-Length: 5\r\n", b"A: b\n", b"\r\n"],
        [b"POST / HTTP/1.1\r\n", b"Content-Length: 5\r\n", b"\n"],
        [b"POST / HTTP/1.1\n", b"Content-Length: 5\r\n", b"\r\n"],
        [b"POST / HTTP/1.1\n", b"A: b\r\n", b"\n"],
    ],
)
def test_a_bare_lf_that_another_reader_may_pass_over_is_refused(lines):
    with pytest.raises(HeadError, match=r"ambiguous|header token"):
        head.parse(b"".join(lines))


@pytest.mark.parametrize(
    "headers",
    [
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length: +5"],
        [b"Content-Length: -5"],
        [b"Content-Length: 0x5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length:"],
        [b"Content-Length: " + b"9" * 4000],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding:"],
        [b"Content-Length : 5"],
        [b" Content-Length: 5"],
        [b"A: b", b" Content-Length: 5"],
        [b"A: b\rContent-Length: 5"],
        [b"A: b\0"],
        [b": b"],
        [b"A b: c"],
        [b"Host: x", b"Host: y"],
        [b"Host: x", b"A: b", b"host: x"],
    ],
)
def test_a_framing_that_can_be_read_in_two_ways_is_refused(headers):
    with pytest.raises(HeadError):
        parsed(*headers)


@pytest.mark.parametrize(
    "line",
    [
        b"POST / HTTP/2.0\r\n",
        b"POST / HTTP/9.9\r\n",
        b"POST / HTTP/0.9\r\n",
        b"POST /\r\n",
        b"POST\r\n",
        b"post / HTTP/1.1\r\n",
        b"NONSENSE / HTTP/1.1\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"POST / a HTTP/1.1\r\n",
        b"POST /\0 HTTP/1.1\r\n",
        b"RTSP / RTSP/1.0\r\n",
    ],
)
def test_a_first_line_that_is_none_of_http_1_is_refused(line):
    with pytest.raises(HeadError):
        parsed(first=line)


def test_a_head_has_a_bound_on_its_headers():
    headers = [b"A: b"] * head.MAX_HEADERS
    assert len(parsed(*headers).headers) == head.MAX_HEADERS
    with pytest.raises(head.HeadTooLargeError, match="128 headers"):
        parsed(*headers, b"A: b")


def test_chunks_do_not_exist_in_http_1_0():
    with pytest.raises(HeadError, match="only Transfer-Encoding is chunked"):
        parsed(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0\r\n")


def test_an_address_that_is_not_encoded_is_refused_with_what_to_do():
    with pytest.raises(HeadError, match="percent-encoded"):
        parsed(first="GET /?q=caf\u00e9 HTTP/1.1\r\n".encode())
