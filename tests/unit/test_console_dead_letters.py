"""The console's dead letters: read, sent again and discarded, by those who may."""

import html
import re
from pathlib import Path

import pytest
from console_client import OWN, ConsoleClient
from store_contents import letter

from appliance import config as configuration
from appliance.console.body_preview import HEX_BYTES, TEXT_BYTES, body_preview
from appliance.console.letter_reasons import WORDS, words_of
from appliance.errors import RefusedError
from appliance.model.contents import DeadLetter
from appliance.redrive import Redriver
from appliance.store.access_rows import Actor
from appliance.store.rows import Span

PAGE = "/console/dead-letters"


@pytest.fixture
def client(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    yield client
    client.close()


def store(client, *letters):
    writer = client.store.open_writer()
    writer.store(letters)
    writer.close()


def count(client):
    return client.services.reader.totals().dead_letters


def sign_in_as(client, *rights, topics=("*",)):
    _, secret = client.services.tokens.create(
        "someone", list(rights), Actor("test", ""), topics=list(topics)
    )
    client.browser.delete_cookie("appliance_session")
    client.sign_in(secret)


def send(client, path, page=PAGE, **fields):
    csrf = re.search(r'name="csrf" value="(\w+)"', client.get(page).text)[1]
    return client.post(f"{PAGE}/{path}", {"csrf": csrf, **fields})


def test_reasons_of_the_documentation_all_have_words_on_the_page():
    text = (Path(__file__).parents[2] / "docs" / "durability.md").read_text()
    table = text.partition("| `reason` | cause |")[2].partition("\n\n")[0]
    first = " ".join(line.split("|")[1] for line in table.splitlines()[2:])
    reasons = re.findall(r"`([a-z-]+)`", first)
    assert len(reasons) >= 15
    assert {("broker-" if r.startswith("broker-") else r) for r in reasons} == set(WORDS)
    assert words_of("from a newer program").advice


def test_an_empty_list_says_that_nothing_is_dropped(client):
    assert "Nothing is ever dropped" in client.get(PAGE).text


def test_letters_are_shown_by_reason_with_the_cause_and_the_next_step(client):
    store(client, letter(b"a", "orders"), letter(b"b", "logs", "unstorable"))
    page = client.get(PAGE).text
    for words in (WORDS["conflict"], WORDS["unstorable"]):
        assert html.escape(words.cause, quote=False) in html.unescape(page)
        assert html.escape(words.advice, quote=False) in html.unescape(page)
    only = client.get(f"{PAGE}?reason=unstorable").text
    assert "logs" in only
    assert "orders" not in only


def test_pages_of_letters_lead_to_the_older_and_back_to_the_newer_ones(client):
    store(client, *(letter(b"%d" % n) for n in range(120)))
    seen, path = [], PAGE
    while path:
        page = client.get(path).text
        seen += [int(each) for each in re.findall(r'name="seq" value="(\d+)"', page)]
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = html.unescape(older[1]) if older else None
    assert seen == list(range(120, 0, -1))
    newer = html.unescape(re.search(r'rel="prev" href="([^"]+)"', page)[1])
    again = [int(each) for each in re.findall(r'name="seq" value="(\d+)"', client.get(newer).text)]
    assert again == list(range(70, 20, -1))


HOSTILE = ["<script>alert(1)</script>", "</pre><b>", "\u202eevil", "{{ 7*7 }}", "'\"><img src=x>"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_letters_are_shown_as_text_wherever_they_appear(client, text):
    store(client, DeadLetter(text, text, text, text.encode(), "unstorable", text))
    for path in (PAGE, f"{PAGE}/1"):
        page = client.get(path).text
        assert str(html.escape(text)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
        if "<" in text:
            assert text not in page


def test_a_letter_that_is_not_there_is_a_page_that_says_so(client):
    for path in ("1", "0", "99999999999999999999999", "x"):
        assert client.get(f"{PAGE}/{path}").status_code == 404


def test_letters_that_are_marked_are_sent_again_to_a_topic(client):
    store(client, *(letter(b"%d" % n) for n in range(4)))
    page = send(client, "redrive", seq=["1", "3"], to="again").text
    assert "2 dead letters sent again" in page
    assert page.count("Waiting to be stored") == 2
    assert "in again" in page
    assert count(client) == 2
    deeds = client.services.access.audit(Span(), 2)
    assert {(d.who, d.action) for d in deeds} == {("administrator", "dead-letter-redrive")}


def test_a_letter_that_would_die_again_stays_and_its_result_says_why(client):
    store(client, letter(b""), letter(b"x"))
    page = send(client, "redrive", every="true", reason="conflict", until="2").text
    assert "1 dead letter sent again" in page
    assert "needs at least one byte" in page
    assert count(client) == 1


def test_letters_that_came_after_the_page_was_made_are_not_meant(client):
    store(client, letter(b"a"))
    store(client, letter(b"b"))
    send(client, "redrive", every="true", reason="conflict", until="1")
    assert count(client) == 1


def test_a_broker_that_is_away_leaves_the_letters_and_offers_to_go_on(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    store(client, letter(b"a"), letter(b"b"))

    def refuse(_envelope):
        raise RefusedError("the broker is away; nothing was kept")

    object.__setattr__(
        client.services, "redriver",
        Redriver(client.services.config, client.services.dead_letters, refuse),
    )  # fmt: skip
    page = send(client, "redrive", every="true", reason="conflict", until="2").text
    assert "the broker is away" in page
    assert "Not tried yet" in page
    assert "Go on" in page
    assert count(client) == 2
    client.close()


def test_few_letters_are_discarded_after_one_question(client):
    store(client, letter(b"a"), letter(b"b"))
    question = send(client, "discard", seq=["1", "2"]).text
    assert "Discard 2 dead letters?" in question
    assert "Type their number" not in question
    assert count(client) == 2
    done = send(client, "discard", seq=["1", "2"], sure="true").text
    assert "2 dead letters discarded" in done
    assert count(client) == 0


def test_many_letters_are_discarded_once_their_number_is_typed(client):
    store(client, *(letter(b"%d" % n) for n in range(30)))
    of_all = {"every": "true", "reason": "conflict", "until": "30"}
    assert "Type their number, 30" in send(client, "discard", **of_all).text
    for typed in ("", "29", "thirty", "٣٠"):
        page = send(client, "discard", **of_all, sure="true", typed=typed).text
        assert "That is not their number" in page
        assert count(client) == 30
    page = send(client, "discard", **of_all, sure="true", typed="30").text
    assert "30 dead letters discarded" in page
    assert count(client) == 0


def test_discarding_nothing_is_said_in_words(client):
    answer = send(client, "discard", page="/console/help")
    assert answer.status_code == 400
    assert "No letter is marked" in answer.text


@pytest.mark.parametrize("seq", ["x", "-1", "1;2", "0", "1e3", ""])
def test_a_malformed_mark_is_refused(client, seq):
    assert send(client, "discard", page="/console/help", seq=seq).status_code == 400


def test_a_token_that_reads_has_no_button_and_is_refused_by_hand(client):
    store(client, letter(b"a"))
    sign_in_as(client, "read")
    for path in (PAGE, f"{PAGE}/1"):
        page = client.get(path).text
        assert "Discard" not in page
        assert "again</button>" not in page
    for path in ("redrive", "discard"):
        assert send(client, path, seq="1", sure="true").status_code == 403
    assert count(client) == 1


def test_a_token_for_some_topics_sees_no_letter_of_the_others(client):
    store(client, letter(b"mine", "a.x"), letter(b"yours", "b.x"))
    sign_in_as(client, "read", topics=["a.*"])
    page = client.get(PAGE).text
    assert "a.x" in page
    assert "b.x" not in page
    assert client.get(f"{PAGE}/1").status_code == 200
    assert client.get(f"{PAGE}/2").status_code == 404


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {}, OWN])
def test_a_form_without_the_sessions_token_is_refused(client, headers):
    store(client, letter(b"a"))
    answer = client.post(f"{PAGE}/discard", {"seq": "1", "sure": "true"}, headers=headers)
    assert answer.status_code == 403
    assert count(client) == 1


def test_a_letter_that_died_again_names_who_sent_it_again(client):
    store(
        client, letter(b"a", reason="unstorable", message_id="01a213ff-ecfd-7000-9b39-123500000000")
    )
    send(client, "redrive", seq="1")
    store(
        client, letter(b"a", reason="unstorable", message_id="01a213ff-ecfd-7000-9b39-123500000000")
    )
    assert re.search(
        r"Sent again before.*by administrator, then as letter 1",
        client.get(f"{PAGE}/2").text,
        re.DOTALL,
    )


@pytest.mark.parametrize(
    ("body", "text", "is_text", "is_whole"),
    [
        (b"", "", True, True),
        ("straße".encode(), "straße", True, True),
        (b"a\0b", "000000  61 00 62                                         a.b", False, True),
        (b"x" * (TEXT_BYTES + 1), "x" * TEXT_BYTES, True, False),
        ("é".encode() * TEXT_BYTES, "é" * (TEXT_BYTES // 2), True, False),
        (b"x" + "é".encode() * TEXT_BYTES, "x" + "é" * (TEXT_BYTES // 2 - 1), True, False),
    ],
)
def test_a_preview_is_text_where_the_bytes_are(body, text, is_text, is_whole):
    assert body_preview(body) == (text, is_text, is_whole)


def test_a_preview_of_bytes_is_bounded():
    shown = body_preview(b"\xff" * 10_000_000)
    assert (shown.is_text, shown.is_whole) == (False, False)
    assert len(shown.text.splitlines()) == HEX_BYTES // 16
