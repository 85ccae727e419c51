"""deploy/kubernetes/scale: held to the schemas of Kubernetes and of the operators, to the names
that these give, to the settings and to the supervisor."""

import configparser
import copy
import json
import re
from pathlib import Path

import jsonschema_rs
import kustomize
import pytest

from appliance import config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes" / "scale"
BY_QUEUE = ROOT / "deploy" / "kubernetes" / "handlers-by-queue"
SCHEMAS = ROOT / "tests" / "support" / "kubernetes-schemas"
VERSIONS = sorted(SCHEMAS.glob("*.json"))
#: What each process of the appliance is called, of those that a host has.
PROCESSES = {"api", "worker", "janitor", "deliver", "handle"}

RESOURCES = kustomize.build(FOLDER, BY_QUEUE)


def name_of(resource):
    return f"{resource['kind']}/{resource['metadata']['name']}"


def of_kind(kind, among=RESOURCES):
    return {each["metadata"]["name"]: each for each in among if each["kind"] == kind}


def pods():
    """Pods' labels and specs: those of the Deployments."""
    return [each["spec"]["template"] for each in of_kind("Deployment").values()]


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda path: path.stem)
def complaints(request):
    """What a version of Kubernetes, or an operator, has against a resource."""
    native = json.loads(request.param.read_text())
    custom = {}
    for path in (SCHEMAS / "operators").glob("*.json"):
        custom |= json.loads(path.read_text())["kinds"]
    made = {}

    def find(resource):
        kind = f"{resource['apiVersion']} {resource['kind']}"
        if kind not in made:
            schema = custom.get(kind) or {
                **native["kinds"][kind], "definitions": native["definitions"]
            }  # fmt: skip
            made[kind] = jsonschema_rs.validator_for(schema)
        return [
            f"{error.instance_path}: {error.message}" for error in made[kind].iter_errors(resource)
        ]

    return find


# --- schemas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", RESOURCES, ids=name_of)
def test_each_resource_of_scale_is_as_kubernetes_or_its_operator_wants_it(complaints, resource):
    assert complaints(resource) == []


@pytest.mark.parametrize("resource", [each for each in RESOURCES if "spec" in each], ids=name_of)
def test_an_unknown_field_of_any_resource_is_seen(complaints, resource):
    wrong = copy.deepcopy(resource)
    wrong["spec"]["replica"] = 3
    assert any("replica" in complaint for complaint in complaints(wrong))


@pytest.mark.parametrize(
    ("kind", "way", "value"),
    [
        ("RabbitmqCluster", ("spec", "replicas"), "three"),
        ("RabbitmqCluster", ("spec", "rabbitmq", "additionalConfg"), "net_ticktime = 5"),
        ("RabbitmqCluster", ("spec", "persistence", "size"), "20Gi"),
        (
            "RabbitmqCluster",
            ("spec", "override", "statefulSet", "spec", "template", "spec", "topologySpread"),
            [],
        ),
        ("Cluster", ("spec", "postgresql", "synchronous", "method"), "all"),
        ("Cluster", ("spec", "postgresql", "synchronous", "dataDurability"), "none"),
        ("Cluster", ("spec", "storage", "sise"), "50Gi"),
        ("Cluster", ("spec", "instances"), 0),
        ("ScaledObject", ("spec", "maxReplicas"), 16),
        ("TriggerAuthentication", ("spec", "secretRef"), {}),
        ("HorizontalPodAutoscaler", ("spec", "metrics"), [{"kind": "Resource"}]),
    ],
)
def test_a_wrong_field_of_an_operators_resource_is_seen(complaints, kind, way, value):
    (resource,) = of_kind(kind).values()
    wrong = copy.deepcopy(resource)
    place = wrong
    for name in way[:-1]:
        place = place[name]
    place[way[-1]] = value
    assert complaints(wrong) != []


def test_every_file_is_named_in_its_kustomization():
    for folder in (FOLDER, BY_QUEUE):
        text = (folder / "kustomization.yaml").read_text()
        for path in folder.iterdir():
            assert path.name in text or path.name == "kustomization.yaml", path.name


# --- processes --------------------------------------------------------------------------------


def test_the_deployments_run_the_processes_of_a_host_but_for_its_broker():
    supervised = set()
    for path in (ROOT / "supervisor" / "conf.d").iterdir():
        supervised |= set(re.findall(r"^command=appliance (\w+)$", path.read_text(), re.MULTILINE))
    run = {}
    for name, deployment in of_kind("Deployment").items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (run[name],) = container["args"]
        assert name == f"inbox-{run[name]}"
    assert set(run.values()) == supervised - {"broker", "listener", "migrate"} == PROCESSES
    (before,) = of_kind("Deployment")["inbox-worker"]["spec"]["template"]["spec"]["initContainers"]
    assert before["args"] == ["migrate"]


def test_each_pod_has_nothing_that_the_strictest_standard_of_kubernetes_forbids():
    """The fields of the Pod Security Standard `restricted`."""
    allowed = {"name", "configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
    for pod in (each["spec"] for each in pods()):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all(volume.keys() <= allowed for volume in pod["volumes"])
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_each_process_has_more_time_to_end_than_it_may_take():
    seconds = {}
    for path in (ROOT / "supervisor" / "conf.d").iterdir():
        sections = configparser.RawConfigParser()
        sections.read(path)
        for name in sections.sections():
            command = sections.get(name, "command").split()[-1]
            seconds[command] = sections.getint(name, "stopwaitsecs")
    for pod in (each["spec"] for each in pods()):
        (container,) = pod["containers"]
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        needed = seconds[container["args"][0]] + sleep.get("seconds", 0)
        assert needed < pod["terminationGracePeriodSeconds"]


def test_each_mount_of_a_container_is_a_volume_of_its_pod_and_holds_the_files_of_its_settings():
    connections = of_kind("ConfigMap")["inbox-connections"]["data"]
    for pod in (each["spec"] for each in pods()):
        volumes = {each["name"]: each for each in pod["volumes"]}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
            assert set(mounts.values()) <= volumes.keys()
            assert {each["configMapRef"]["name"] for each in container["envFrom"]} == {
                "inbox-settings", "inbox-connections",
            }  # fmt: skip
            for setting in ("APPLIANCE_DATABASE_URL_FILE", "PGSSLROOTCERT"):
                place = Path(connections[setting])
                secret = volumes[mounts[str(place.parent)]]["secret"]
                assert [each["path"] for each in secret["items"]] == [place.name]
            token = Path(connections["APPLIANCE_TOKEN_FILE"])
            assert volumes[mounts[str(token.parent)]]["secret"]["secretName"] == "inbox-token"
            # The root of the volume: only `appliance run` makes a folder that is not there.
            assert mounts[connections["APPLIANCE_DATA"]] == "data"


def test_the_settings_of_the_processes_are_ones_that_they_take():
    """A password is in the environment of those alone that connect to the brokers."""
    data = {}
    for each in of_kind("ConfigMap").values():
        data |= each["data"]
    secrets = {"username": "default_user_x-_1", "password": "p-_2"}
    urls = {}
    for pod in (each["spec"] for each in pods()):
        (container,) = pod["containers"]
        environ = {name: text for name, text in data.items() if not name.endswith("_FILE")}
        for variable in container.get("env", []):
            text = variable.get("value") or secrets[variable["valueFrom"]["secretKeyRef"]["key"]]
            for name, value in environ.items():
                text = text.replace(f"$({name})", value)
            environ[variable["name"]] = text
        loaded = config.load({n: v for n, v in environ.items() if n.startswith("APPLIANCE_")})
        urls[container["args"][0]] = loaded.broker_urls
    brokers = of_kind("RabbitmqCluster")["inbox-broker"]
    three = [
        f"amqp://default_user_x-_1:p-_2@inbox-broker-server-{number}.inbox-broker-nodes"
        for number in range(brokers["spec"]["replicas"])
    ]
    connects = {"api", "worker", "janitor"}
    assert urls == {name: three if name in connects else [] for name in PROCESSES}


def test_those_that_have_the_brokers_addresses_may_connect_to_them_and_no_others():
    policies = of_kind("NetworkPolicy")
    with_url = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]
        for each in pods()
        if "env" in each["spec"]["containers"][0]
    }
    (chosen,) = policies["inbox-broker-clients"]["spec"]["podSelector"]["matchExpressions"]
    (let_in,) = policies["inbox-broker"]["spec"]["ingress"][0]["from"]
    (admitted,) = let_in["podSelector"]["matchExpressions"]
    assert set(chosen["values"]) == set(admitted["values"]) == with_url


def test_every_setting_that_the_files_name_exists_here_too():
    names = {setting.name for setting in config.settings()}
    names |= {f"{setting.name}_FILE" for setting in config.settings() if setting.secret}
    for path in (each for folder in (FOLDER, BY_QUEUE) for each in folder.iterdir()):
        assert set(re.findall(r"\bAPPLIANCE_[A-Z_]+\b", path.read_text())) <= names, path


# --- the operators ----------------------------------------------------------------------------


def test_secrets_are_those_that_the_operators_make_for_these_resources():
    """RabbitMQ's: NAME-default-user; CloudNativePG's: NAME-app and NAME-ca."""
    (broker,), (database,) = of_kind("RabbitmqCluster"), of_kind("Cluster")
    made = {
        f"{broker}-default-user": {"username", "password"},
        f"{database}-app": {"uri"},
        f"{database}-ca": {"ca.crt"},
        "inbox-token": None,
    }
    named: dict[str, set[str] | None] = {}
    for pod in (each["spec"] for each in pods()):
        for volume in pod["volumes"]:
            if secret := volume.get("secret"):
                keys = {each["key"] for each in secret["items"]} if "items" in secret else None
                named[secret["secretName"]] = keys
        for variable in (
            each for container in pod["containers"] for each in container.get("env", [])
        ):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                named.setdefault(reference["name"], set()).add(reference["key"])
    assert named == made
    (trigger,) = of_kind("TriggerAuthentication").values()
    (reference,) = trigger["spec"]["secretTargetRef"]
    assert (reference["name"], reference["key"]) == (f"{database}-app", "uri")


def test_the_brokers_have_the_settings_that_the_tested_cluster_has():
    """Those of Compose, but for what the operator sets itself, or for where its files differ."""
    (broker,) = of_kind("RabbitmqCluster").values()
    text = (ROOT / "deploy" / "compose" / "scale" / "rabbitmq.conf").read_text()

    def settings(lines):
        pairs = (line.split("=", 1) for line in lines.splitlines() if "=" in line)
        return {name.strip(): value.strip() for name, value in pairs if name[0] != "#"}

    here = settings(broker["spec"]["rabbitmq"]["additionalConfig"])
    assert here.items() <= settings(text).items()
    assert {"net_ticktime", "heartbeat", "anonymous_login_user"} <= here.keys()


def test_a_commit_is_on_two_disks_and_each_member_on_a_node_of_its_own():
    (database,) = of_kind("Cluster").values()
    synchronous = database["spec"]["postgresql"]["synchronous"]
    assert database["spec"]["instances"] == 3
    assert (synchronous["number"], synchronous["dataDurability"]) == (1, "required")
    assert database["spec"]["affinity"]["podAntiAffinityType"] == "required"
    (broker,) = of_kind("RabbitmqCluster").values()
    spread = broker["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    hosts = [each for each in spread["topologySpreadConstraints"]
             if each["topologyKey"] == "kubernetes.io/hostname"]  # fmt: skip
    assert [each["whenUnsatisfiable"] for each in hosts] == ["DoNotSchedule"]


# --- selectors --------------------------------------------------------------------------------


def test_each_selector_selects_a_pod_that_there_is():
    labels = [each["metadata"]["labels"] for each in pods()]
    # As the operators label the pods of their resources.
    labels += [{"app.kubernetes.io/name": name} for name in of_kind("RabbitmqCluster")]
    labels += [{"cnpg.io/cluster": name} for name in of_kind("Cluster")]
    for resource in RESOURCES:
        if resource["kind"] in ("Service", "PodDisruptionBudget", "Deployment", "NetworkPolicy"):
            spec = resource["spec"]
            selector = spec.get("selector") or spec["podSelector"]
            wanted = selector.get("matchLabels", selector).items()
            assert any(wanted <= each.items() for each in labels), name_of(resource)
    for name, deployment in of_kind("Deployment").items():
        template = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == template
        assert template["app.kubernetes.io/component"] == name.removeprefix("inbox-")


def test_the_service_leads_to_the_apis_alone_by_a_port_that_they_have():
    (service,) = of_kind("Service").values()
    deployment = of_kind("Deployment")["inbox-api"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {each["name"] for each in container["ports"]}
    assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    probes = {probe: container[probe]["httpGet"]["path"]
              for probe in ("startupProbe", "livenessProbe", "readinessProbe")}  # fmt: skip
    assert probes["readinessProbe"] == "/readyz/intake"
    assert probes["livenessProbe"] == probes["startupProbe"] == "/healthz"


def test_an_autoscaler_alone_says_how_many_pods_a_deployment_has():
    (by_cpu,), (by_queue,) = (of_kind(kind).values()
                              for kind in ("HorizontalPodAutoscaler", "ScaledObject"))  # fmt: skip
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in (by_cpu, by_queue)}
    assert scaled == {"inbox-api", "inbox-handle"}
    for name, deployment in of_kind("Deployment").items():
        assert ("replicas" in deployment["spec"]) is (name not in scaled)
    alone = of_kind("Deployment", kustomize.build(FOLDER))
    assert alone["inbox-handle"]["spec"]["replicas"] == 2
