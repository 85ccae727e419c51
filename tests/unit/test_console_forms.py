"""Every form of the console counts only if one of its own pages sends it."""

import re

from console_client import OWN, ConsoleClient

from appliance import config as configuration

#: What stands for the names in an address.
NAMES = {
    "topic": "orders", "name": "x", "deletion_id": "x", "replay_id": "x", "message_id": "x",
    "seq": "1",
}  # fmt: skip


def test_every_form_wants_its_token_and_a_page_of_ours(tmp_path):
    client = ConsoleClient(
        configuration.load({"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_MIN_FREE_BYTES": "0"})
    )
    client.sign_in()
    token = {"csrf": client.form("/console/help")["csrf"]}
    other = [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "null"},
        {},
    ]
    paths = [
        re.sub(r"<(?:\w+:)?(\w+)>", lambda match: NAMES[match[1]], rule.rule)
        for rule in client.app.url_map.iter_rules()
        if "POST" in rule.methods and rule.rule.startswith("/console")
    ]
    assert len(paths) > 10
    for path in paths:
        for headers in other:
            assert client.post(path, token, headers).status_code == 403, (path, headers)
        for forged in ({}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "\u202e"}):
            assert client.post(path, forged, OWN).status_code == 403, (path, forged)
    client.close()
