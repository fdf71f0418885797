"""What a pod asks of its node, and what of it no node has, in words. Pure: a pod's JSON and a sentence in, words out.

The meaning of requests is that of Kubernetes' "Resource Management for Pods and Containers" page: a limit without a
request is a request, and what prepares a pod runs before its containers and not beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .models import Json
from .units import format_bytes, quantity_bytes

_INSUFFICIENT = re.compile(r"Insufficient ([A-Za-z0-9./_-]*[A-Za-z0-9])")
_BYTES: Mapping[str, str] = {"memory": "memory", "ephemeral-storage": "disk"}
_THOUSANDTHS = re.compile(r"(\d{1,18})m", re.ASCII)
_FRACTION = re.compile(r"\d{1,9}\.\d{1,18}", re.ASCII)


def asked_of(pod: Json) -> dict[str, float]:
    """Resource → what the pod asks of a node: cores, bytes, or a number. What is not a quantity is left out."""
    spec = pod.get("spec") or {}
    asked = _sum(spec.get("containers") or ())
    for before in spec.get("initContainers") or ():
        for name, amount in _sum([before]).items():
            asked[name] = max(asked.get(name, 0), amount)
    return asked


def _sum(containers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    asked: dict[str, float] = {}
    for container in containers:
        resources = container.get("resources") or {}
        for name, given in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            amount = number(str(given))
            if amount is not None:
                asked[name] = asked.get(name, 0) + amount
    return asked


def number(text: str) -> float | None:
    if found := _THOUSANDTHS.fullmatch(text):
        return int(found[1]) / 1000
    if _FRACTION.fullmatch(text):
        return float(text)
    try:
        return quantity_bytes(text)
    except ValueError:
        return None


def short_of(said: str, asked: Mapping[str, float]) -> str:
    """What the scheduler says that no node has: ``2 GPUs and 4 GiB of memory``; empty where it says nothing of it.

    What the pod asks for is not always known, for example when a hook of the cluster added it: ``enough FPGA``.
    """
    return " and ".join(_words(name, asked.get(name)) for name in sorted(set(_INSUFFICIENT.findall(said))))


def _words(resource: str, amount: float | None) -> str:
    what = _BYTES.get(resource, "CPU" if resource == "cpu" else resource.rpartition("/")[2].upper())
    if not amount:
        return f"enough {what}"
    if resource in _BYTES:
        return f"{format_bytes(amount)} of {what}"
    if resource == "cpu":
        return f"{amount:g} CPU core{'' if amount == 1 else 's'}"
    return f"{amount:g} {what}{'s' if what == 'GPU' and amount != 1 else ''}"
