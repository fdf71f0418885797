"""A name for each launch on a machine that many share: ``<launch>.<host>.daas.internal``, for its certificate. Pure.

No DNS knows these names: whoever connects looks up the host that is in them, and checks the certificate for the whole
name. `.internal` is kept free for private use (ICANN, resolution 2024.07.29.06). The proxy has the same rule in
``wiring/proxy_names.cjs``.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address

from .errors import StartFailed

SUFFIX = ".daas.internal"
IPV6 = ".ip6"
MOST_BYTES = 98_000
"""Of all names in a certificate: OpenSSL, thus Python and Node, refuse certificates of more than 100 KiB by default
(SSL_CTX_set_max_cert_list(3))."""


def name_of(launch_id: str, host: str) -> str:
    """The launch's name on a host, which is a name or an address."""
    if ":" in host:
        host = IPv6Address(host).exploded.replace(":", "-") + IPV6
    return f"{launch_id}.{host}{SUFFIX}".lower()


def not_too_many(names: Collection[str]) -> list[str]:
    """The names, sorted; raises StartFailed(permanent=True) where nobody could read a certificate with all of them."""
    length = sum(len(name) for name in names)
    if length > MOST_BYTES:
        raise StartFailed(
            f"The server could be started on any of {len(names)} nodes, and its certificate cannot name so many. "
            "Choose a smaller partition, or ask the administrator.",
            permanent=True,
            reason="certificate",
            log_message=f"{len(names)} names have {length} bytes, and a certificate holds {MOST_BYTES}: let profiles "
            "name partitions with fewer nodes, or set SlurmBackend.submit_by = 'rest', with which a launch's "
            "certificate is made for its one node",
        )
    return sorted(names)


def host_of(name: str) -> str:
    """The host in a launch's name; any other name as it is."""
    if not name.endswith(SUFFIX):
        return name
    _, _, host = name.removesuffix(SUFFIX).partition(".")
    return host.removesuffix(IPV6).replace("-", ":") if host.endswith(IPV6) else host or name
