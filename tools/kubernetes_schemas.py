"""Makes tests/support/kubernetes-schemas/: what Kubernetes says about the kinds that we use.

The schemas come from the package kubernetes-validate on PyPI, which has those of each version, all
kinds, in 17,000 files: too much to install for each run of the tests. Run it in an environment of
its own when a new version of Kubernetes is to be checked against, and change `VERSIONS`:

    python3 -m venv /tmp/schemas && /tmp/schemas/bin/pip install kubernetes-validate pyyaml
    /tmp/schemas/bin/python tools/kubernetes_schemas.py

Those of the operators' own kinds are in their CustomResourceDefinitions, which a checkout of each
operator has:

    tools/kubernetes_schemas.py --operator rabbitmq-cluster-operator-2.22.3 --licence MPL-2.0 \
        --kinds RabbitmqCluster config/crd/bases/*.yaml
"""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

#: The newest one, and the oldest that has every field that we use.
VERSIONS = ("1.31", "1.37")
KINDS = {
    "v1 ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1 Service": "io.k8s.api.core.v1.Service",
    "apps/v1 Deployment": "io.k8s.api.apps.v1.Deployment",
    "apps/v1 StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "autoscaling/v2 HorizontalPodAutoscaler": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "networking.k8s.io/v1 NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "policy/v1 PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}
TARGET = Path(__file__).parent.parent / "tests" / "support" / "kubernetes-schemas"


def main() -> None:
    """Write the schemas of Kubernetes, or those of an operator."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operator", help="name and version of an operator")
    parser.add_argument("--licence", help="of its files, by its SPDX name")
    parser.add_argument("--kinds", help="that we use, separated by commas")
    parser.add_argument("definitions", nargs="*", type=Path, help="files of the operator's")
    options = parser.parse_args()
    if not options.operator:
        write_kubernetes()
    elif options.licence and options.kinds and options.definitions:
        write_operator(options)
    else:
        parser.error("--operator needs --licence, --kinds and its files")


def write_operator(options: argparse.Namespace) -> None:
    """Write one file: a schema for each kind, in which an unknown field is an error.

    Kubernetes drops such a field without a word, unless it is asked to be strict. Rules in CEL are
    left out: they take its own evaluator.
    """
    import yaml  # noqa: PLC0415  # only this needs it

    kinds: dict[str, Any] = {}
    for path in options.definitions:
        for each in yaml.safe_load_all(path.read_text()):
            if not each or each["kind"] != "CustomResourceDefinition":
                continue
            spec = each["spec"]
            if (kind := spec["names"]["kind"]) in options.kinds.split(","):
                for version in spec["versions"]:
                    name = f"{spec['group']}/{version['name']} {kind}"
                    whole = version["schema"]["openAPIV3Schema"]
                    whole["properties"].pop("status", None)
                    kinds[name] = strict(whole)
    if lacking := set(options.kinds.split(",")) - {name.split()[1] for name in kinds}:
        raise SystemExit(f"no definition of {', '.join(sorted(lacking))}")
    text = json.dumps(
        {"origin": options.operator, "licence": options.licence, "kinds": kinds}, sort_keys=True
    )
    folder = TARGET / "operators"
    folder.mkdir(exist_ok=True)
    (folder / f"{options.operator}.json").write_text(f"{text}\n")


def strict(part: Any) -> Any:
    """Return this part of a structural schema without descriptions, closed to unknown fields."""
    kept = {
        key: part[key]
        for key in ("type", "enum", "pattern", "required", "minimum", "maximum", "minLength",
                    "maxLength", "minItems", "maxItems", "minProperties")
        if key in part
    }  # fmt: skip
    for key in ("anyOf", "oneOf", "allOf"):
        if key in part:
            kept[key] = part[key]  # of types, or of required fields: nothing below them
    if part.get("nullable") and "type" in kept:
        kept["type"] = [kept["type"], "null"]
    if "items" in part:
        kept["items"] = strict(part["items"])
    if isinstance(values := part.get("additionalProperties"), dict):
        kept["additionalProperties"] = strict(values)
    elif "properties" in part:
        kept["properties"] = {name: strict(each) for name, each in part["properties"].items()}
        if not part.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    return kept


def write_kubernetes() -> None:
    """Write a file for each version: the kinds, and the definitions that they need."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if not spec or not spec.origin:
        raise SystemExit("pip install kubernetes-validate")
    folder = Path(spec.origin).parent / "kubernetes-json-schema"
    TARGET.mkdir(exist_ok=True)
    for version in VERSIONS:
        source = folder / f"v{version}.0-local-strict" / "_definitions.json"
        definitions = json.loads(source.read_text())["$defs"]
        needed: dict[str, Any] = {}
        for name in KINDS.values():
            take(name, definitions, needed)
        kinds = {kind: {"$ref": f"#/definitions/{name}"} for kind, name in KINDS.items()}
        text = json.dumps({"kinds": kinds, "definitions": needed}, sort_keys=True)
        (TARGET / f"{version}.json").write_text(f"{text}\n")


def take(name: str, definitions: dict[str, Any], needed: dict[str, Any]) -> None:
    """Copy a definition, and those that it refers to, without the words about them."""
    if name not in needed:
        needed[name] = {}
        needed[name] = strip(definitions[name], definitions, needed)


def strip(part: Any, definitions: dict[str, Any], needed: dict[str, Any]) -> Any:
    """Return this part of a schema without descriptions; definitions it refers to are taken."""
    if isinstance(part, list):
        return [strip(each, definitions, needed) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {
        key: strip(value, definitions, needed)
        for key, value in part.items()
        if not (key.startswith("x-kubernetes") or (key == "description" and isinstance(value, str)))
    }
    if reference := part.get("$ref"):
        name = reference.rpartition("/")[2]
        take(name, definitions, needed)
        kept["$ref"] = f"#/definitions/{name}"
    return kept


if __name__ == "__main__":
    main()
