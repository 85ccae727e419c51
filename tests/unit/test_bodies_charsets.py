"""Text in other charsets becomes UTF-8, and nothing is guessed."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.bodies.charsets import _KNOWN, find_charset, to_utf8
from appliance.errors import BodyError

TEXT = "line one\nline two öä €\n"


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        ("utf-8", "utf_8"),
        ("UTF8", "utf_8"),
        (" Utf-8 ", "utf_8"),
        ("ISO-8859-1", "latin_1"),
        ("latin1", "latin_1"),
        ("ISO-8859-15", "iso8859_15"),
        ("windows-1252", "cp1252"),
        ("CP1252", "cp1252"),
        ("US-ASCII", "ascii"),
        ("utf-16", "utf_16"),
        ("UTF-16LE", "utf_16_le"),
        ("utf-16-be", "utf_16_be"),
        ("Shift_JIS", "shift_jis"),
        ("windows-31j", "cp932"),
        ("EUC-JP", "euc_jp"),
        ("ISO-2022-JP", "iso2022_jp"),
        ("GB18030", "gb18030"),
        ("gb2312", "gb2312"),
        ("Big5", "big5"),
        ("KOI8-R", "koi8_r"),
        ("macintosh", "mac_roman"),
        ("IBM850", "cp850"),
        ("TIS-620", "tis_620"),
        ("utf-7", None),
        ("unicode_escape", None),
        ("raw_unicode_escape", None),
        ("idna", None),
        ("punycode", None),
        ("rot13", None),
        ("zip", None),
        ("base64", None),
        ("binary", None),
        ("../../etc/passwd", None),
        ("", None),
        ("x" * 10_000, None),
        ("\0", None),
    ],
)
def test_a_charset_is_found_by_its_names_and_no_other_codec_is(name, charset):
    assert find_charset(name) == charset


def test_every_known_charset_is_one_of_python():
    for name in _KNOWN:
        codecs.getincrementaldecoder(name)
        assert find_charset(name) == name


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_byte_order_mark_names_the_charset_and_goes(codec, is_cut):
    assert to_utf8(TEXT.encode(codec), None, is_cut=is_cut) == TEXT.encode()


@pytest.mark.parametrize(
    ("mark", "codec"),
    [
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_and_a_charset_that_agree_are_fine(mark, codec):
    body = mark + TEXT.encode(codec)
    for name in (codec, codec[:6], codec.replace("-le", "le").replace("-be", "be")):
        assert to_utf8(body, find_charset(name)) == TEXT.encode()
    assert to_utf8(TEXT.encode(codec), find_charset(codec)) == TEXT.encode()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("iso-8859-1", "Köln 21°C café"),
        ("iso-8859-15", "5 €"),
        ("windows-1252", "5 € „yes“"),
        ("windows-1251", "Привет"),
        ("shift_jis", "こんにちは"),
        ("gb18030", "你好 😀"),
        ("euc-kr", "안녕"),
        ("iso-2022-jp", "こんにちは" * 30_000),
        ("utf-16le", "a" * 65_535 + "😀" * 3),
    ],
)
def test_text_in_a_charset_becomes_utf8(name, text):
    charset = find_charset(name)
    assert to_utf8(text.encode(charset), charset) == text.encode()


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        ("a".encode("utf-16"), "utf-8", "says utf-8, and the body begins with .* utf-16-le"),
        ("a".encode("utf-16"), "utf-16be", "says utf-16-be, and the body begins with"),
        ("a".encode("utf-16"), "iso-8859-1", "says latin-1, and the body begins with"),
        (b"\xef\xbb\xbfa", "windows-1252", "says cp1252, and the body begins with"),
        (b"\xef\xbb\xbfa", "us-ascii", "says ascii, and the body begins with"),
        (b"a\0b\0", "utf-16", "name utf-16-le or utf-16-be"),
        (b"a\0\0\0", "utf-32", "name utf-32-le or utf-32-be"),
        (b"caf\xe9", "utf-8", "not utf-8, which it says it is"),
        (b"caf\xe9", "us-ascii", "not ascii"),
        (b"a\0b", "utf-16le", "not utf-16-le"),
        (b"\x00\xd8", "utf-16le", "not utf-16-le"),
        (b"\xff\xfea", None, "not utf-16-le"),
        (b"\x81", "windows-1252", "not cp1252"),
        (b"\xef\xbb\xbf\xff", "utf-8", "not utf-8"),
    ],
)
def test_bytes_that_contradict_their_charset_are_refused(body, name, words):
    with pytest.raises(BodyError, match=words):
        to_utf8(body, name and find_charset(name))


def test_a_text_without_mark_and_charset_stays_as_it_is():
    for body in (b"caf\xe9\n", b"\0\n\xff\n", b"", b"\n\n", TEXT.encode(), b"\xc3", b"\x00\x01"):
        assert to_utf8(body, None, is_cut=True) is body


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_lines_that_look_like_utf16_are_not_cut(codec):
    body = TEXT.encode(codec)
    with pytest.raises(BodyError, match="looks like UTF-16 without a byte order mark"):
        to_utf8(body, None, is_cut=True)
    assert to_utf8(body, None) is body


@given(st.binary(max_size=60), st.sampled_from([None, *sorted(_KNOWN)]), st.booleans())
def test_bytes_of_a_stranger_are_refused_or_become_text(body, charset, is_cut):
    try:
        text = to_utf8(body, charset, is_cut=is_cut)
    except BodyError:
        return
    if charset is not None:
        text.decode()


@given(st.text(max_size=200), st.sampled_from(["utf_8", "utf_16_le", "utf_32_be", "gb18030"]))
def test_an_encoded_text_comes_out_as_it_was(text, charset):
    body = text.encode(charset)
    if not body.startswith(
        (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"\x841\x953")
    ):
        assert to_utf8(body, charset) == text.encode()
