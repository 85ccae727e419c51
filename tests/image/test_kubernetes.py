"""The image with the user, rights, folders and memory that deploy/kubernetes gives its pod."""

import secrets

import httpx
import kubernetes
from engine import wait_until


def test_the_image_runs_as_the_pod_on_a_volume_as_kubernetes_gives_it(start, volumes):
    data, token = volumes(), volumes()
    secret = secrets.token_hex(16)
    kubernetes.give_to_group(data)
    kubernetes.write_secret(token, "token", secret)
    pod = start(data, *kubernetes.options(token)).wait_ready()
    assert pod.exec("appliance", "token").strip() == secret
    (container,) = kubernetes.pod()["containers"]
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        url = pod.http.base_url.join(container[name]["httpGet"]["path"])
        wait_until(lambda url=url: httpx.get(url).status_code == 200, f"{name} is met")
    pod.store("kept", "by the pod")
    assert pod.exec("ls", "/data").split() == ["appliance", "lost+found"]
    assert pod.exec("find", "/data/appliance", "-type", "f", "-perm", "/077") == ""
    _, status = pod.stop()
    assert status == 0
