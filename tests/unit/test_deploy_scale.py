"""deploy/compose/scale: the files that its compose.yaml, its settings and its monitoring name."""

import re
from pathlib import Path

import yaml

from appliance import config

FOLDER = Path(__file__).parents[2] / "deploy" / "compose" / "scale"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def mounts():
    """Where a service has which file of this repository."""
    for name, service in SERVICES.items():
        for each in service.get("volumes", []):
            source, target = each.split(":")[:2]
            if source.startswith("."):
                yield name, FOLDER / source, target


def test_every_file_that_a_service_mounts_is_there():
    assert [path for _, path, _ in mounts() if not path.is_file()] == []


def test_every_file_of_a_service_has_a_use():
    used = {path.resolve() for _, path, _ in mounts()}
    unnamed = {FOLDER / name for name in ("compose.yaml", "settings.env", ".env.example")}
    there = {path for path in FOLDER.rglob("*") if path.is_file()} - {FOLDER / ".gitignore"}
    ignored = {FOLDER / line.strip("/") for line in (FOLDER / ".gitignore").read_text().split()}
    assert there - ignored == {path for path in used if path.is_relative_to(FOLDER)} | unnamed


def test_every_secret_is_a_file_that_git_ignores():
    ignored = (FOLDER / ".gitignore").read_text().split()
    for name, secret in COMPOSE["secrets"].items():
        file = secret["file"].removeprefix(".")
        assert file in ignored or (file.endswith(".pem") and "/*.pem" in ignored), name


def test_every_variable_is_in_the_example_with_its_default():
    text = (FOLDER / "compose.yaml").read_text()
    used = dict(re.findall(r"\$\{(INBOX_\w+):-([^}]*)\}", text))
    example = (FOLDER / ".env.example").read_text()
    assert dict(re.findall(r"^#(INBOX_\w+)=(.*)$", example, re.MULTILINE)) == used


def test_every_setting_that_a_service_gets_is_one():
    known = {each.name for each in config.settings()}
    for name, service in SERVICES.items():
        given = {key.removesuffix("_FILE") for key in service.get("environment", {})
                 if key.startswith("APPLIANCE_")}  # fmt: skip
        assert given <= known, name


def test_prometheus_asks_each_api_and_reads_rules_that_are_mounted():
    found = yaml.safe_load((FOLDER / "monitoring" / "prometheus.yml").read_text())
    targets = [target for job in found["scrape_configs"] for each in job["static_configs"]
               for target in each["targets"]]  # fmt: skip
    apis = [name for name, service in SERVICES.items() if service.get("command") == ["api"]]
    assert targets == [f"{name}:8080" for name in apis]
    placed = [target for name, _, target in mounts() if name == "prometheus"]
    assert [f"/etc/prometheus/{rules}" for rules in found["rule_files"]] == [
        target for target in placed if target.endswith("alerts.yml")
    ]
    (job,) = found["scrape_configs"]
    token = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert token in SERVICES["prometheus"]["secrets"]


def test_grafana_shows_the_dashboards_of_a_folder_that_is_mounted():
    (provider,) = yaml.safe_load((FOLDER / "monitoring" / "dashboards.yml").read_text())[
        "providers"
    ]
    placed = {target: path for name, path, target in mounts() if name == "grafana"}
    shown = [path.name for target, path in placed.items()
             if target.startswith(provider["options"]["path"])]  # fmt: skip
    assert shown == ["dashboard.json"]
    (source,) = yaml.safe_load((FOLDER / "monitoring" / "datasource.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"


def test_nginx_names_addresses_that_compose_gives_to_the_apis():
    named = set(re.findall(r"server (api-\d):8080", (FOLDER / "nginx.conf").read_text()))
    assert named == {each.partition(":")[0] for each in SERVICES["proxy"]["extra_hosts"]}
