"""What people do in the console: mend dead letters, send, look after the system."""

import hashlib
import json
import re
import sqlite3
import subprocess
from contextlib import closing

import pytest
from harness import wait_until
from supervised import Appliance


def execute(inbox: Appliance, statement: str) -> None:
    with closing(sqlite3.connect(inbox.database, timeout=30)) as link, link:
        link.execute(statement)


def post(inbox, topic, body):
    answer = inbox.client.post(f"/v1/topics/{topic}/messages", content=body)
    assert answer.status_code == 202
    return answer.json()["id"]


def letters(inbox, **query):
    return inbox.client.get("/v1/dead-letters", params=query).json()["dead_letters"]


def make_letters(inbox, topic, count):
    """Make dead letters of a topic: lines that are not JSON."""
    body = "\n".join(f"bad {n} <b>{topic}</b>" for n in range(count))
    answer = inbox.client.post(
        f"/v1/topics/{topic}/messages?split=ndjson&on-bad=dead-letter", content=body
    )
    assert answer.json()["dead"]["count"] == count
    wait_until(lambda: len(letters(inbox, topic=topic)) == count, "the letters are there")


@pytest.fixture
def reader(inbox):
    """The token of who may only read."""
    wish = {"name": "reader", "rights": ["read"]}
    yield inbox.client.post("/v1/tokens", json=wish).json()["token"]
    inbox.client.delete("/v1/tokens/reader")


def test_a_dead_letter_is_read_mended_and_sent_again_until_it_is_stored(browse, inbox):
    execute(
        inbox,
        "CREATE TRIGGER no_bad BEFORE INSERT ON messages WHEN NEW.topic = 'mend' "
        "BEGIN SELECT RAISE(ABORT, 'temp out of range'); END",
    )
    message = post(inbox, "mend", b'{"temp": 99}')
    wait_until(lambda: letters(inbox, topic="mend"), "a dead letter")
    page = browse("/console/dead-letters?reason=unstorable")
    page.locator("tr", has_text="mend").get_by_role("link").first.click()
    page.get_by_text("temp out of range").wait_for()
    page.get_by_text("Mend the cause that the error names").wait_for()
    # Without the mend it dies again, and the page leads to the letter that it became.
    page.get_by_role("button", name="Send again").click()
    page.get_by_text("1 dead letter sent again").wait_for()
    wait_until(lambda: letters(inbox, topic="mend"), "it died again")
    execute(inbox, "DROP TRIGGER no_bad")
    (letter,) = letters(inbox, topic="mend")
    page.goto(f"/console/dead-letters/{letter['seq']}")
    page.get_by_text("Sent again before").wait_for()
    page.get_by_role("button", name="Send again").click()
    page.get_by_text("1 dead letter sent again").wait_for()
    wait_until(
        lambda: inbox.client.get(f"/v1/messages/{message}").json().get("status") == "stored",
        "the message is a row",
    )
    assert letters(inbox, topic="mend") == []


def test_marked_letters_are_sent_again_with_the_keyboard_alone(browse, inbox):
    make_letters(inbox, "keyboard", 2)
    page = browse("/console/dead-letters?topic=keyboard")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("input[name=seq]:checked").count() == 2
    page.get_by_role("button", name="Send the marked again").focus()
    page.keyboard.press("Enter")
    page.get_by_text("2 dead letters sent again").wait_for()
    wait_until(lambda: inbox.count("keyboard") == 2, "two rows")


def test_discarding_many_letters_wants_their_number_typed(browse, inbox):
    make_letters(inbox, "many", 12)
    page = browse("/console/dead-letters?topic=many")
    for box in page.locator("input[name=seq]").all():
        box.check()
    page.get_by_role("button", name="Discard the marked…").click()
    page.fill("#typed", "11")
    page.get_by_role("button", name="Discard 12 dead letters").click()
    page.get_by_text("That is not their number").wait_for()
    assert len(letters(inbox, topic="many")) == 12
    page.fill("#typed", "12")
    page.get_by_role("button", name="Discard 12 dead letters").click()
    page.get_by_text("12 dead letters discarded").wait_for()
    assert letters(inbox, topic="many") == []


def test_a_token_that_reads_has_no_button_and_is_refused_by_hand(browse, inbox, reader):
    make_letters(inbox, "watched", 1)
    page = browse("/console/login", signed_in=False)
    page.fill("#token", reader)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/")
    page.goto("/console/dead-letters?topic=watched")
    page.get_by_text("watched").first.wait_for()
    assert page.get_by_role("button", name=re.compile("Discard|again")).count() == 0
    browse.expect("status of 403")
    status = page.evaluate(
        """async () => (await fetch("/console/dead-letters/discard", {
          method: "POST", body: new URLSearchParams({every: "true", until: "999", sure: "true",
            csrf: document.querySelector("[name=csrf]").value})})).status"""
    )
    assert status == 403
    assert len(letters(inbox, topic="watched")) == 1


def test_files_are_sent_with_every_byte_and_what_is_refused_is_said(browse, inbox, tmp_path):
    contents = {"a.bin": bytes(range(256)) * 999, "b.txt": "straße\r\nzwei".encode(), "none": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    page = browse("/console/send?topic=uploads")
    page.set_input_files("#files", [tmp_path / name for name in contents])
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator("[data-results] li.bad", has_text="at least one byte").wait_for()
    page.locator("[data-results] li.ok").nth(1).wait_for()
    ids = [each.get_attribute("data-id") for each in page.locator("li.ok").all()]
    back = {
        hashlib.sha256(inbox.client.get(f"/v1/messages/{each}/body").content).hexdigest()
        for each in ids
    }
    assert back == {hashlib.sha256(c).hexdigest() for c in contents.values() if c}


@pytest.mark.parametrize("scripts", [True, False])
def test_a_message_is_written_and_sent_with_and_without_scripts(browse, inbox, scripts):
    topic = f"written.{str(scripts).lower()}"
    page = browse(f"/console/send?topic={topic}", java_script_enabled=scripts)
    page.fill("#body", '{"a": "ß"}\n{"b": 9223372036854775807}')
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text(re.compile("stored as|Stored")).first.wait_for()
    ((body,),) = inbox.query("SELECT body FROM messages WHERE topic = ?", topic)
    assert body == '{"a": "ß"}\n{"b": 9223372036854775807}'


def test_a_topic_that_is_none_is_said_in_words_without_scripts(browse):
    page = browse("/console/send", java_script_enabled=False)
    page.fill("#topic", "Not A Topic")
    page.fill("#body", "x")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_text("Invalid topic name").wait_for()
    assert page.input_value("#topic") == "Not A Topic"


def test_an_inbox_address_is_made_and_its_line_works_in_a_shell(browse, inbox):
    page = browse("/console/topics/hooks/addresses")
    page.get_by_role("button", name="Make the address").click()
    page.get_by_text("This is shown once").wait_for()
    assert page.get_by_role("img", name="QR code of the address").is_visible()
    line = page.inner_text("#try")
    subprocess.run(line, shell=True, check=True, capture_output=True, timeout=60)
    wait_until(lambda: inbox.count("hooks") == 1, "a row")
    page.goto("/console/topics")
    page.get_by_role("link", name="hooks", exact=True).wait_for()


def test_a_worker_is_restarted_and_its_state_goes_through_words(browse, inbox):
    name = "worker:worker_1"
    wait_until(lambda: inbox.states()[name] == "RUNNING", "it runs")
    before = inbox.pid(name)
    page = browse("/console/system")
    page.get_by_role("button", name=f"Restart… {name}").click()
    page.get_by_text("Nothing is lost").wait_for()
    page.get_by_role("button", name=f"Restart {name}").click()
    page.get_by_text("was told to end").wait_for()
    wait_until(lambda: inbox.pid(name) not in (None, before), "a new process")
    page.goto("/console/system/logs?process=" + name)
    page.locator(".log li").first.wait_for()


def test_the_account_of_all_envelopes_is_made_from_the_page(browse, inbox, stored):
    stored("accounted", "x")
    page = browse("/console/system/checks")
    page.get_by_role("button", name=re.compile("Check it")).first.click()

    def checked():
        page.goto("/console/system/checks")
        return page.get_by_text("none missing").count()

    wait_until(checked, "the check has ended", 60)
    assert json.loads((inbox.data / "last-verification.json").read_text())["result"]["ok"]


def test_a_backup_is_made_and_downloaded_from_the_page(browse, tmp_path):
    page = browse("/console/system/backups")
    page.get_by_role("button", name="Make one now").click()
    link = page.get_by_role("link", name=re.compile("download")).first
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
