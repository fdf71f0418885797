"""A name for each launch on a machine that many share: ``<launch>.<host>.daas.internal``, for its certificate. Pure.

No DNS knows these names: whoever connects looks up the host that is in them, and checks the certificate for the whole
name. `.internal` is kept free for private use (ICANN, resolution 2024.07.29.06). The proxy has the same rule in
``wiring/proxy_names.cjs``.
"""

from __future__ import annotations

from ipaddress import IPv6Address

SUFFIX = ".daas.internal"
IPV6 = ".ip6"


def name_of(launch_id: str, host: str) -> str:
    """The launch's name on a host, which is a name or an address."""
    if ":" in host:
        host = IPv6Address(host).exploded.replace(":", "-") + IPV6
    return f"{launch_id}.{host}{SUFFIX}".lower()


def host_of(name: str) -> str:
    """The host in a launch's name; any other name as it is."""
    if not name.endswith(SUFFIX):
        return name
    _, _, host = name.removesuffix(SUFFIX).partition(".")
    return host.removesuffix(IPV6).replace("-", ":") if host.endswith(IPV6) else host or name
