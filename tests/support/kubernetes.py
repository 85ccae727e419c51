"""The files of deploy/kubernetes, and their appliance in a container as Kubernetes would start it.

No test has a cluster. A container gets the settings, user, rights, volumes and memory that the
StatefulSet gives its pod, and a volume whose root has the owner and mode that kubelet sets.
"""

from pathlib import Path
from typing import Any

import kustomize
from engine import IMAGE, docker

BASE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base"


def resources() -> list[dict[str, Any]]:
    """What the base's kustomization makes, its settings without their hash."""
    return kustomize.build(BASE)


def one(kind: str) -> dict[str, Any]:
    """The only resource of a kind."""
    (found,) = (each for each in resources() if each["kind"] == kind)
    return found


def pod() -> dict[str, Any]:
    """What the StatefulSet says of its pod."""
    spec: dict[str, Any] = one("StatefulSet")["spec"]["template"]["spec"]
    return spec


def as_root(volume: str, command: str) -> None:
    """Do with a volume what kubelet does."""
    docker(
        "run", "--rm", "--user", "0", "--volume", f"{volume}:/volume", "--entrypoint", "sh",
        IMAGE, "-c", command,
    )  # fmt: skip


def give_to_group(volume: str) -> None:
    """Give a new volume to the group of the pod, as `fsGroup` does, once."""
    group = pod()["securityContext"]["fsGroup"]
    as_root(volume, f"mkdir /volume/lost+found && chgrp -R {group} /volume && chmod 2775 /volume")


def write_secret(volume: str, name: str, text: str) -> None:
    """Lay out a Secret: root's, for the group to read by the mode that the pod names."""
    group = pod()["securityContext"]["fsGroup"]
    mode = next(each["secret"]["defaultMode"] for each in pod()["volumes"] if "secret" in each)
    path = f"/volume/{name}"
    as_root(volume, f"echo {text} > {path} && chgrp {group} {path} && chmod {mode:o} {path}")


def options(token: str) -> list[str]:
    """The options of `docker run` that stand for the pod, but for the volume of its data."""
    (container,) = pod()["containers"]
    context = {**pod()["securityContext"], **container["securityContext"]}
    assert context["runAsNonRoot"], "docker has no option for it"
    found = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
    found += ["--group-add", str(context["fsGroup"])]
    found += ["--memory", container["resources"]["limits"]["memory"].removesuffix("i").lower()]
    if context["readOnlyRootFilesystem"]:
        found += ["--read-only"]
    if not context["allowPrivilegeEscalation"]:
        found += ["--security-opt", "no-new-privileges"]
    for name in context["capabilities"]["drop"]:
        found += ["--cap-drop", name]
    for variable in container["env"]:
        found += ["--env", f"{variable['name']}={variable['value']}"]
    for mount in container["volumeMounts"]:
        if mount["name"] == "data":
            assert mount["mountPath"] == "/data", "where each container of the tests has its volume"
        elif mount["name"] == "token":
            assert mount["readOnly"]
            found += ["--volume", f"{token}:{mount['mountPath']}:ro"]
        else:
            found += ["--tmpfs", f"{mount['mountPath']}:mode=2777,gid={context['fsGroup']}"]
    return found
