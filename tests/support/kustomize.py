"""Builds a kustomization, as far as the files of deploy/kubernetes use it.

kustomize itself is a program in Go, of which no package of Debian's and no wheel is made. What it
and this make of the same files was compared (kustomize 5.7.1: docs/kubernetes.md); a file that asks
for more than is known here is an error.
"""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

#: Fields of a kustomization that are known here.
_KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "configMapGenerator"}
#: Lists that are merged by a key of their elements; any other list is replaced.
_KEYS = {
    "containers": "name", "initContainers": "name", "env": "name", "volumes": "name",
    "volumeMounts": "mountPath", "ports": "containerPort",
}  # fmt: skip


def build(folder: Path, *components: Path) -> list[Resource]:
    """Return the resources of a folder, changed by the components that an overlay would name.

    The names of generated ConfigMaps stay without the hash that kustomize puts behind them.
    """
    return _apply(folder, [], components)


def _apply(folder: Path, found: list[Resource], components: tuple[Path, ...]) -> list[Resource]:
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert said.keys() <= _KNOWN, f"{folder}: unknown here: {said.keys() - _KNOWN}"
    for name in said.get("resources", []):
        found += [each for each in yaml.safe_load_all((folder / name).read_text()) if each]
    found += [_config_map(folder, each) for each in said.get("configMapGenerator", [])]
    for component in (*(folder / name for name in said.get("components", [])), *components):
        found = _apply(component, found, ())
    for patch in said.get("patches", []):
        chosen = [each for each in found if _is_target(each, patch["target"])]
        assert chosen, f"{folder}: a patch of nothing: {patch}"
        for each in chosen:
            _patch(folder, each, patch)
    return found


def _config_map(folder: Path, said: dict[str, Any]) -> Resource:
    assert said.keys() == {"name", "envs"}
    lines = [line for name in said["envs"] for line in (folder / name).read_text().splitlines()]
    data = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    metadata = {"name": said["name"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _is_target(resource: Resource, target: dict[str, str]) -> bool:
    assert target.keys() <= {"kind", "name"}
    name = target.get("name", ".*")
    return resource["kind"] == target["kind"] and bool(
        re.fullmatch(name, resource["metadata"]["name"])
    )


def _patch(folder: Path, resource: Resource, patch: dict[str, Any]) -> None:
    if "path" in patch:
        said = yaml.safe_load((folder / patch["path"]).read_text())
        said.pop("metadata")
        merged = _merged(resource, said)
        resource.clear()
        resource.update(merged)
        return
    for step in yaml.safe_load(patch["patch"]):
        assert step["op"] == "remove"
        *way, last = step["path"].strip("/").split("/")
        place = resource
        for name in way:
            place = place[name]
        del place[last]


def _merged(old: Any, new: Any, name: str = "") -> Any:
    """Merge as Kubernetes's strategic merge does."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {key: _merged(old[key], new[key], key) for key in old.keys() & new.keys()}
        return copy.deepcopy({**old, **new, **both})
    key = _KEYS.get(name)
    if key and isinstance(old, list) and isinstance(new, list):
        known = {each[key]: each for each in new}
        olds = [_merged(each, known.pop(each[key])) if each[key] in known else each for each in old]
        return copy.deepcopy([*known.values(), *olds])
    return copy.deepcopy(new)
