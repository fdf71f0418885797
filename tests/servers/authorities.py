"""JupyterHub's authorities without a hub: what `internal_ssl` makes at a hub's start, and its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from certipy import Certipy


def make_authorities(folder: Path, names: Sequence[str] = ("IP:127.0.0.1",)) -> dict[str, str]:
    """The files with which a hub asks its servers (``Backend.tls``); it has these names. Blocks."""
    folder.mkdir(mode=0o700)
    certipy = Certipy(store_dir=str(folder))
    bundles = certipy.trust_from_graph({"hub-ca": ["hub-ca", "notebooks-ca"], "notebooks-ca": ["hub-ca"]})
    files = certipy.create_signed_pair("hub-internal", "hub-ca", alt_names=list(names))["files"]
    return {"client_key": files["key"], "client_cert": files["cert"], "ca_certs": bundles["hub-ca"]}


def bundle_for_servers(folder: Path) -> str:
    """The file with the authorities that servers trust."""
    return str(folder / "notebooks-ca_trust.crt")
