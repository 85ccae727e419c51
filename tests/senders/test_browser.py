"""A real browser: forms with files, and scripts of pages that an inbox names or does not name."""

import json
from itertools import count

import pytest
from browser import Website
from load import wait_drained

pytestmark = pytest.mark.slow

NUMBERS = count(1)


@pytest.fixture(scope="module")
def running(module_stack):
    return module_stack()


@pytest.fixture
def website():
    with Website() as made:
        yield made


def make_inbox(running, **wanted):
    topic = f"browser-{next(NUMBERS)}"
    answer = running.client.post("/v1/inboxes", json={"topic": topic, **wanted})
    assert answer.status_code == 201, answer.text
    return topic, answer.json()["address"]


def rows(running, topic):
    wait_drained(running)
    return running.rows(topic)


def test_form_with_files_is_its_fields_and_each_file(running, website, tmp_path):
    redirect = f"{website.origin}/thanks"
    topic, address = make_inbox(running, kind="form", settings={"redirect": redirect})
    website.pages["/"] = f"""
        <form method="post" action="{address}" enctype="multipart/form-data">
          <input name="name" value="Ada &amp; Zo\u00eb"> <input name="photos" type="file" multiple>
          <input name="empty" type="file"> <input name="color" value="red">
          <input name="color" value="blue">
        </form>
        <script>
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array([0, 255, 13, 10])], "M\u00e4rz.png",
                                 {{type: "image/png"}}));
        files.items.add(new File(["--x\\r\\n"], "a \\"quoted\\".txt", {{type: "text/plain"}}));
        document.forms[0].elements.photos.files = files.files;
        document.forms[0].submit();
        </script>"""
    website.visit("/", until="/thanks", folder=tmp_path)
    form, photo, text = rows(running, topic)
    assert json.loads(form["body"]) == {"name": "Ada & Zo\u00eb", "color": ["red", "blue"]}
    assert (photo["body"], photo["content_type"]) == (b"\x00\xff\r\n", "image/png")
    assert json.loads(photo["meta"])["file"] == {"field": "photos", "name": "M\u00e4rz.png"}
    assert (text["body"], text["content_type"]) == ("--x\r\n", "text/plain")
    assert "quoted" in json.loads(text["meta"])["file"]["name"]


def test_form_on_a_page_in_another_charset_is_stored_as_it_was_written(running, website, tmp_path):
    redirect = f"{website.origin}/thanks"
    topic, address = make_inbox(running, kind="form", settings={"redirect": redirect})
    website.pages["/"] = f"""
        <form method="post" action="{address}" accept-charset="iso-8859-1">
          <input name="_charset_" type="hidden"> <input name="city" value="K\u00f6ln &#8364;">
        </form>
        <script>document.forms[0].submit()</script>"""
    website.visit("/", until="/thanks", folder=tmp_path)
    (form,) = rows(running, topic)
    assert json.loads(form["body"])["city"] == "K\u00f6ln \u20ac"


SCRIPT = """
    <script type="module">
    let said;
    try {{
      const answer = await fetch("{address}", {{
        method: "POST",
        headers: {{"Content-Type": "application/json"}},
        body: JSON.stringify({{hello: "world"}}),
      }});
      const told = await answer.json();
      said = `${{answer.status}} ${{told.status}} ${{answer.headers.get("location")}}`;
    }} catch (error) {{ said = `${{error}}`; }}
    await fetch("/done", {{method: "POST", body: said}});
    </script>"""


def test_script_of_a_page_that_the_inbox_names_reads_the_answer(running, website, tmp_path):
    topic, address = make_inbox(running, settings={"origins": [website.origin]})
    website.pages["/"] = SCRIPT.format(address=address)
    website.visit("/", until="/done", folder=tmp_path)
    (said,) = website.bodies("/done")
    (row,) = rows(running, topic)
    assert said.decode() == f"202 queued /v1/messages/{row['id']}"
    assert row["body"] == '{"hello":"world"}'
    assert json.loads(row["meta"])["headers"]["origin"] == website.origin


def test_script_of_a_page_that_the_inbox_does_not_name_can_send_no_json(running, website, tmp_path):
    topic, address = make_inbox(running, settings={"origins": ["https://www.example.com"]})
    website.pages["/"] = SCRIPT.format(address=address)
    website.visit("/", until="/done", folder=tmp_path)
    assert website.bodies("/done") == [b"TypeError: Failed to fetch"]
    assert rows(running, topic) == []


def test_page_that_leaves_while_it_sends_by_beacon_is_heard(running, website, tmp_path):
    topic, address = make_inbox(running, settings={"origins": ["*"]})
    website.pages["/left"] = "gone"
    website.pages["/"] = f"""
        <script>
        addEventListener("pagehide", () => navigator.sendBeacon("{address}", "left at 21:30"));
        location = "/left";
        </script>"""
    website.visit("/", until=lambda: rows(running, topic), folder=tmp_path)
    (row,) = rows(running, topic)
    assert row["body"] == "left at 21:30"
    assert website.bodies("/left")
