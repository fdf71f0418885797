"""Tokens for other services in pods: a Secret of the launch, mounted read-only, whose content the hub replaces.

Kubelet takes a changed Secret over when it next looks at the pod, once a minute by default, and all of its files at
once. A note in the pod would make it look sooner, but the hub has no right to change pods, and needs none.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from traitlets import default

from daas_hub.clients.kube import PATCH, Kube, KubeMissing, KubeRefused, path
from daas_hub.core.errors import BackendUnavailable
from daas_hub.core.models import Handle

from . import kube_pod
from .base import Backend
from .kube_loss import no_right
from .kube_settings import KubeSettings


class KubeTokens(KubeSettings, Backend):
    """The part of the backend that hands them over."""

    _kube: Kube

    @default("site_tokens_margin_s")
    def _until_kubelet_looks(self) -> float:
        return 120.0

    async def hand_over(self, handle: Handle, files: Mapping[str, str]) -> None:
        names = kube_pod.names_in(handle)
        data = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
        # "add" replaces what is there, as a whole.
        change = [{"op": "add", "path": "/data", "value": data}]
        url = path("secrets", names.namespace, names.site_tokens)
        try:
            await self._kube.call("PATCH", url, body=change, content_type=PATCH)
        except KubeMissing as error:
            raise BackendUnavailable(f"The Secret {names.site_tokens} is gone.", reason="site_tokens") from error
        except KubeRefused as error:
            raise no_right("change its Secrets", error) from error

    async def handed_over(self, handle: Handle) -> Mapping[str, str]:
        names = kube_pod.names_in(handle)
        try:
            secret = await self._kube.call("GET", path("secrets", names.namespace, names.site_tokens))
            data = secret.get("data") or {}
            return {name: base64.b64decode(text, validate=True).decode() for name, text in data.items()}
        except (KubeMissing, binascii.Error, UnicodeDecodeError):
            return {}
        except KubeRefused as error:
            raise no_right("read its Secrets", error) from error
