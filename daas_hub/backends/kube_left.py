"""What launches left in the namespace: pods, Secrets and ConfigMaps, told by what they say of themselves."""

from __future__ import annotations

from collections.abc import Sequence

from daas_hub.clients.kube import METADATA, Kube, path
from daas_hub.core.models import Handle, Json

from .kube_pod import HUB, LAUNCH, VERSION, Names, handle_from

_ENDINGS = Names("", "")
NOT_PODS = {"secrets": (_ENDINGS.secret, _ENDINGS.site_tokens), "configmaps": (_ENDINGS.files,)}
"""Kind → what names have after that of the pod."""


async def leftovers(kube: Kube, namespace: str, hub_id: str) -> Sequence[Handle]:
    """A handle for each launch of which anything is there; what is being deleted already does not count.

    Only metadata is asked for: the content of Secrets goes over no wire for this. Raises KubeRefused.
    """
    found: dict[str, Handle] = {}
    for kind in ("pods", *NOT_PODS):
        async for item in kube.pages(path(kind, namespace), f"{HUB}={hub_id},{LAUNCH}", accept=METADATA):
            meta = item["metadata"]
            if not meta.get("deletionTimestamp"):
                handle = handle_from(item) if kind == "pods" else _handle(meta, NOT_PODS[kind])
                if handle is not None:
                    found.setdefault(meta["labels"][LAUNCH], handle)
    return list(found.values())


def _handle(meta: Json, endings: Sequence[str]) -> Handle | None:
    """By what stands beside a pod; None where it is not called as ours are."""
    name: str = meta["name"]
    ending = next((ending for ending in endings if name.endswith(ending)), "")
    if not ending:
        return None
    return {
        "backend": "kubernetes",
        "version": VERSION,
        "launch_id": meta["labels"][LAUNCH],
        "namespace": meta["namespace"],
        "pod": name.removesuffix(ending),
    }
