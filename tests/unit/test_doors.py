"""docs/doors.md and GET /v1/doors say what the table of doors says."""

import re
from pathlib import Path

from appliance.model.doors import DOORS

PAGE = Path(__file__).parents[2] / "docs" / "doors.md"


def promises(section):
    """Return the sentences after each bold word of a section, on one line each."""
    found = re.findall(r"^- \*\*(.+?)\.\*\* (.*(?:\n  .*)*)", section, re.MULTILINE)
    return [(name, " ".join(text.split())) for name, text in found]


def test_the_page_of_doors_says_of_each_door_what_the_table_says():
    _, *sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    assert [(section.split("\n", 1)[0], promises(section)) for section in sections] == [
        (
            door.name,
            [
                ("Acknowledgement", door.acknowledgement),
                ("Can be doubled", door.doubled),
                ("Can be lost", door.lost),
            ],
        )
        for door in DOORS
    ]
