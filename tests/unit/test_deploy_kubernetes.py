"""deploy/kubernetes: held to Kubernetes's schemas, to the settings and to the supervisor."""

import configparser
import copy
import json
import re
from pathlib import Path

import jsonschema_rs
import kubernetes
import pytest

from appliance import config

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "tests" / "support" / "kubernetes-schemas").glob("*.json"))


@pytest.fixture(params=SCHEMAS, ids=lambda path: path.stem)
def complaints(request):
    """What a version of Kubernetes has against a resource."""
    known = json.loads(request.param.read_text())

    def find(resource):
        kind = known["kinds"][f"{resource['apiVersion']} {resource['kind']}"]
        schema = jsonschema_rs.validator_for({**kind, "definitions": known["definitions"]})
        return [f"{error.instance_path}: {error.message}" for error in schema.iter_errors(resource)]

    return find


def test_each_resource_is_as_kubernetes_wants_it(complaints):
    for resource in kubernetes.resources():
        assert complaints(resource) == [], resource["kind"]


def test_a_field_that_kubernetes_does_not_know_is_seen(complaints):
    resource = copy.deepcopy(kubernetes.one("StatefulSet"))
    resource["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    assert any("readyProbe" in complaint for complaint in complaints(resource))


def test_every_file_of_the_base_is_named_in_its_kustomization():
    text = (kubernetes.BASE / "kustomization.yaml").read_text()
    for path in kubernetes.BASE.iterdir():
        assert path.name in text or path.name == "kustomization.yaml", path.name


def test_each_selector_of_the_pod_selects_it_by_the_labels_that_it_has():
    labels = kubernetes.one("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    chosen = [each["spec"].get("selector") or each["spec"].get("podSelector")
              for each in kubernetes.resources() if "spec" in each]  # fmt: skip
    assert len(chosen) == 5
    for selector in chosen:
        assert selector.get("matchLabels", selector) == labels
    services = {each["metadata"]["name"] for each in kubernetes.resources()
                if each["kind"] == "Service"}  # fmt: skip
    assert kubernetes.one("StatefulSet")["spec"]["serviceName"] in services


def test_every_setting_that_the_files_name_exists():
    names = {setting.name for setting in config.settings()}
    names |= {f"{setting.name}_FILE" for setting in config.settings() if setting.secret}
    folders = (kubernetes.BASE, ROOT / "deploy" / "compose" / "single")
    for path in (each for folder in folders for each in folder.iterdir()):
        assert set(re.findall(r"\bAPPLIANCE_[A-Z_]+\b", path.read_text())) <= names, path


def test_the_pod_has_more_time_to_end_than_its_programs_may_take():
    seconds = 0
    for path in (ROOT / "supervisor" / "conf.d").iterdir():
        sections = configparser.RawConfigParser()
        sections.read(path)
        if path.name != "41-api-further.conf":  # of one group with the first, and stopped with it
            seconds += sum(sections.getint(name, "stopwaitsecs") for name in sections.sections())
    assert seconds < kubernetes.pod()["terminationGracePeriodSeconds"]


def test_the_pod_has_nothing_that_the_strictest_standard_of_kubernetes_forbids():
    """The fields of the Pod Security Standard `restricted`."""
    pod = kubernetes.pod()
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    allowed = {"name", "configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    assert all(volume.keys() <= allowed for volume in pod["volumes"])
    assert all("hostPort" not in port for port in container["ports"])


def test_the_pod_runs_as_the_images_user():
    number = re.search(r"useradd --uid (\d+)", (ROOT / "Dockerfile").read_text())
    assert number
    context = kubernetes.pod()["securityContext"]
    assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {int(number[1])}
