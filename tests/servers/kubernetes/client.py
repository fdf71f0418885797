"""Asking a cluster with kubectl: the rig's own, or one that exists already."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from daas_hub.core.naming import new_id
from tests.waiting import until_blocking

HOST = "DAAS_TEST_HOST"


class KubectlFailed(Exception):
    """Raised when kubectl says no; the text is what it said."""


class Client:
    """kubectl with one kubeconfig."""

    def __init__(self, kubectl: Path | str, kubeconfig: Path) -> None:
        self.program = str(kubectl)
        self.kubeconfig = kubeconfig

    def env(self) -> dict[str, str]:
        """What programs need to find this cluster."""
        return {"KUBECONFIG": str(self.kubeconfig)}

    @cached_property
    def host(self) -> str:
        """This machine's address as pods see it: ``DAAS_TEST_HOST``, else the one from which it asks the API server."""
        if given := os.environ.get(HOST):
            return given
        server = urlsplit(
            json.loads(self.kubectl("config", "view", "--minify", "-o", "json"))["clusters"][0]["cluster"]["server"]
        )
        assert server.hostname is not None
        family, kind, protocol, _, address = socket.getaddrinfo(
            server.hostname, server.port or 443, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as asked:
            # Nothing is sent: the routing table answers.
            asked.connect(address)
            return str(asked.getsockname()[0])

    def kubectl(self, *words: str, given: str | None = None, within_s: float = 60) -> str:
        """What kubectl prints; ``given`` is its standard input. Raises KubectlFailed."""
        argv = [self.program, f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False, timeout=within_s)
        if done.returncode:
            raise KubectlFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create or change objects as an administrator."""
        whole = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(whole))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """One object. Raises KubectlFailed where it is not there."""
        answer: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-n", namespace, "-o", "json"))
        return answer

    def until(self, condition: Callable[[], Any], *, within_s: float = 60, what: str = "") -> Any:
        """Ask until the condition is true and return it. What kubectl refuses meanwhile counts as not yet. Blocks."""
        return until_blocking(condition, refused=KubectlFailed, within_s=within_s, what=what)

    def pod_in_phase(self, name: str, namespace: str, *phases: str, within_s: float = 60) -> dict[str, Any]:
        """The pod, once it is in one of the phases. What happened to it is in the error."""
        last: dict[str, Any] = {}

        def there() -> bool:
            last.update(self.get("pod", name, namespace))
            return last["status"].get("phase") in phases

        try:
            self.until(there, within_s=within_s, what=f"pod {namespace}/{name} {' or '.join(phases)}")
        except AssertionError as error:
            events = self.kubectl("get", "events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")
            raise AssertionError(f"{error}\n{json.dumps(last.get('status'))}\n{events}") from error
        return last

    @contextmanager
    def namespace(self, **labels: str) -> Iterator[str]:
        """A namespace with a name that was never used; deleted afterwards, without waiting."""
        name = f"test-{new_id()[:12]}".lower()
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        self.until(lambda: self.get("serviceaccount", "default", name), what="the namespace's account")
        try:
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false")
