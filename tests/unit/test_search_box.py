"""The languages of searches: what people type, read as words and conditions."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.conditions import parse_condition
from appliance.model.search_box import parse_box
from appliance.model.search_words import parse_words, searchable

#: Texts that come near to the languages' own signs.
TYPED = st.text(st.sampled_from('ab1 "-*:<>=!~@$[].\\é🎉\n')) | st.text()


@pytest.mark.parametrize(
    ("typed", "words", "conditions"),
    [
        ("straße device:t-6 temp>30", "straße", ["device=t-6", "temp>30"]),
        ('"card declined" -test', '"card declined" -test', []),
        ('-"in a row" x*', '-"in a row" x*', []),
        ('name:"Ann B" a', "a", ["name=Ann B"]),
        ("temp:>=30 temp:<40", "", ["temp>=30", "temp<40"]),
        ("customer.id=42 items[0].sku~ab", "", ["customer.id=42", "items[0].sku contains ab"]),
        ("error:* -paid:true", "", ["error exists", "paid!=true"]),
        ("@headers.x-github-event:push", "", ["@headers.x-github-event=push"]),
        ('["a name"]:1', "", ['["a name"]=1']),
        ("12:30 https://example.org/a?b=c", "12:30 https://example.org/a?b=c", []),
        ("a: :b =c >5", "a: :b =c >5", []),
        ('"', '"', []),
        ("", "", []),
    ],
)
def test_a_box_is_words_and_conditions(typed, words, conditions):
    search = parse_box(typed)
    assert (search.words, list(map(str, search.conditions))) == (words, conditions)
    assert search.notes == ()


@pytest.mark.parametrize("typed", ["a..b:1", "a.b[x]:1", "-temp>30", "a[:1"])
def test_a_bad_path_is_taken_as_a_word_and_said_so(typed):
    search = parse_box(f"{typed} word")
    assert search.words == f"{typed} word"
    assert search.conditions == ()
    assert search.notes[0].startswith(f"{typed} is looked for as a word: ")


def test_a_box_that_holds_too_much_says_so():
    search = parse_box(" ".join(f"a{n}:1" for n in range(30)))
    assert len(search.conditions) == 20
    assert len(search.notes) == 10
    assert "first 10,000 characters" in parse_box("x" * 20_000).notes[0]


@given(TYPED)
def test_any_text_is_a_box(typed):
    search = parse_box(typed)
    assert all(piece in typed for piece in search.words.split(" "))
    for condition in search.conditions:
        assert parse_condition(str(condition)) == condition


@given(TYPED)
def test_any_text_is_a_search_that_finds_itself(typed):
    words = parse_words(typed)
    if words is not None and not any(term.is_excluded for term in words.terms):
        parts = words.excerpt(typed)
        assert "".join(part.text for part in parts).strip("…") in typed
        assert words.matches(typed) or any(sign in typed for sign in '"\0*')


@given(st.text(), st.text())
def test_an_excerpt_is_a_piece_of_the_text(typed, text):
    words = parse_words(typed)
    if words is not None:
        parts = words.excerpt(text)
        whole = "".join(part.text for part in parts)
        assert whole.removeprefix("…").removesuffix("…") in text or whole in text
        assert len(whole) <= 202


@given(st.text())
def test_the_escapes_of_a_json_text_are_read_as_what_they_stand_for(text):
    words = parse_words(text)
    escaped = json.dumps({"a": text})
    plain = json.dumps({"a": text}, ensure_ascii=False)
    if words is not None and "\\" not in plain:
        assert words.matches(searchable(escaped)) == words.matches(searchable(plain))


@given(TYPED)
def test_a_condition_that_is_written_again_is_the_same(typed):
    for text in (typed, f"a={typed}", f"a contains {typed}", f'a>"{typed}"'):
        with contextlib.suppress(ValueError):
            condition = parse_condition(text)
            assert parse_condition(str(condition)) == condition
