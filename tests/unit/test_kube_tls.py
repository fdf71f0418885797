"""A pod with a certificate: one Secret, a DNS name of its own, and nothing of the key in what others see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daas_hub.backends import kube_beside, kube_pod
from daas_hub.backends.kube import KubeBackend
from daas_hub.backends.kube_answers import url_of
from daas_hub.backends.kube_pod import Rules, names_of, own
from daas_hub.core.errors import StartFailed
from daas_hub.core.models import LaunchSpec
from daas_hub.core.pod_rules import violations
from tests.helm.pods import launch_spec

KINDS = ("keyfile", "certfile", "cafile")


@pytest.fixture
def spec(tmp_path: Path) -> LaunchSpec:
    for kind in KINDS:
        (tmp_path / kind).write_text(f"text of {kind}")
    return replace(launch_spec(), certificates={kind: str(tmp_path / kind) for kind in KINDS})


def built(spec: LaunchSpec, service: str = "servers") -> dict[str, Any]:
    container = {"name": "notebook", "image": "any", "env": [], "volumeMounts": []}
    body = {"containers": [container], "volumes": []}
    return own({"metadata": {}, "spec": body}, spec, names_of(spec, "people"), (), Rules(service=service))


def test_the_certificate_is_in_the_secret_and_in_files_and_no_variable(spec: LaunchSpec) -> None:
    names = names_of(spec, "people")
    texts = kube_beside.read(spec.certificates or {})
    secret = kube_beside.secret_of(spec, names, texts)
    assert secret["stringData"] == {**spec.secrets, **{kind: f"text of {kind}" for kind in KINDS}}
    pod = built(spec)
    volumes = {v["name"]: v["secret"] for v in pod["spec"]["volumes"] if "secret" in v}
    # What the launcher makes variables of is the token alone.
    assert [item["path"] for item in volumes[kube_pod.SECRET]["items"]] == list(spec.secrets)
    assert [item["path"] for item in volumes[kube_pod.TLS]["items"]] == list(KINDS)
    assert {volume["secretName"] for volume in volumes.values()} == {names.secret}
    env = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
    assert env["JUPYTERHUB_SSL_KEYFILE"] == f"{kube_pod.TLS_AT}/keyfile"
    assert env["JUPYTERHUB_SERVICE_URL"].startswith("https://0.0.0.0:8888/")
    assert "text of" not in json.dumps(pod)
    assert "Secret" not in "".join(violations(pod, KubeBackend(hub_id=spec.hub_id).pod_rules(spec.hub_id)))


async def test_its_name_is_the_pods_and_is_found_again(spec: LaunchSpec) -> None:
    names, pod = names_of(spec, "people"), built(spec)
    host = f"{names.pod}.servers.people.svc"
    assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (names.pod, "servers")
    handle = kube_pod.handle_of(spec, names, pod_uid="u", warnings=(), service="servers")
    pod["metadata"]["uid"] = "u"
    again = kube_pod.handle_from(pod)
    assert again is not None
    assert handle["host"] == again["host"] == host
    assert url_of("10.0.0.7", handle) == f"https://{host}:8888"
    backend = KubeBackend(namespace="people", server_service="servers")
    assert await backend.certificate_names(spec) == (f"DNS:{host}",)
    with pytest.raises(StartFailed, match=r"KubeBackend\.server_service"):
        await KubeBackend(namespace="people").certificate_names(spec)


def test_without_certificates_nothing_of_it_is_there(spec: LaunchSpec) -> None:
    plain = replace(spec, certificates=None)
    pod = built(plain)
    assert not {"hostname", "subdomain"} & pod["spec"].keys()
    assert "JUPYTERHUB_SSL" not in json.dumps(pod)
    handle = kube_pod.handle_of(plain, names_of(plain, "people"), pod_uid="u", warnings=(), service="servers")
    assert url_of("10.0.0.7", handle) == "http://10.0.0.7:8888"
    assert url_of("fd00::7", handle) == "http://[fd00::7]:8888"
