"""The console's files: small, without scripts in pages."""

import re
from pathlib import Path

from appliance.console import frame
from appliance.console.assets import assets

CONSOLE = Path(frame.__file__).parent


def test_the_assets_stay_small():
    """As a browser gets them: without comments."""
    sizes = {name: len(asset.content) for name, asset in assets().items()}
    assert sizes["console.css"] <= 18 * 1024
    own = [name for name in sizes if name.endswith(".js") and "/" not in name]
    assert sum(sizes[name] for name in own) <= 20 * 1024


def test_no_template_has_a_style_or_a_script_of_its_own():
    for path in CONSOLE.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|\|\s*safe\b", text), path
        for script in re.findall(r"<script\b[^>]*>", text):
            assert " src=" in script or 'type="application/json"' in script, path


def test_no_script_makes_markup_of_text():
    for path in CONSOLE.rglob("static/*.js"):
        text = path.read_text()
        names = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
        assert not re.search(names, text), path


def test_scripts_are_sent_as_they_are_but_for_lines_of_comments():
    for path in CONSOLE.glob("static/*.js"):
        lines = path.read_text().splitlines()
        sent = assets()[path.name].content.decode().splitlines()
        assert sent == [line for line in lines if not line.lstrip().startswith("//")], path
        # Such a line within a text in backticks would be missed.
        assert path.read_text().count("`") % 2 == 0, path
        assert not any(line.count("`") % 2 for line in lines), path
