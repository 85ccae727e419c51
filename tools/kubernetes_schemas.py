"""Makes tests/support/kubernetes-schemas/: what Kubernetes says about the kinds that we use.

The schemas come from the package kubernetes-validate on PyPI, which has those of each version, all
kinds, in 17,000 files: too much to install for each run of the tests. Run it in an environment of
its own when a new version of Kubernetes is to be checked against, and change `VERSIONS`:

    python3 -m venv /tmp/schemas && /tmp/schemas/bin/pip install kubernetes-validate
    /tmp/schemas/bin/python tools/kubernetes_schemas.py
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

#: The newest one, and the oldest that has every field that we use.
VERSIONS = ("1.31", "1.37")
KINDS = {
    "v1 ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1 Service": "io.k8s.api.core.v1.Service",
    "apps/v1 StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "networking.k8s.io/v1 NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "policy/v1 PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}
TARGET = Path(__file__).parent.parent / "tests" / "support" / "kubernetes-schemas"


def main() -> None:
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
