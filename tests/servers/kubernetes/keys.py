"""Certificates, tokens and kubeconfigs of one cluster: made anew for each, worthless elsewhere."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

from .place import Place
from .program import write

USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "kubelet": ("system:node:rig", "system:nodes"),
}
"""File name of the kubeconfig → the user and the group that the API server sees."""


class Keys:
    """The files, in a folder of the place."""

    def __init__(self, place: Place, port: int) -> None:
        self.place, self.port = place, port
        self.folder = place.data / "keys"
        self.ca = self.folder / "ca.pem"
        self.tokens = self.folder / "tokens.csv"

    @property
    def url(self) -> str:
        """The API server's address, the same from this machine and from pods."""
        return f"https://{self.place.node}:{self.port}"

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of that name."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of one of USERS."""
        return self.folder / f"{name}.kubeconfig"

    def make(self) -> None:
        """Write everything."""
        self.folder.mkdir(mode=0o700)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self._openssl(
            "req", "-x509", *curve, "-days", "2", "-subj", "/CN=cluster", "-keyout", "ca.key", "-out", "ca.pem"
        )
        addresses = ", ".join(f"IP:{a}" for a in (self.place.node, self.place.first_service, "127.0.0.1"))
        names = ", ".join(f"DNS:kubernetes{n}" for n in ("", ".default", ".default.svc", ".default.svc.cluster.local"))
        self._signed("server", "/CN=kube-apiserver", f"subjectAltName={addresses}, {names}", curve)
        # How the API server introduces itself to the kubelet.
        self._signed("client", "/O=system:masters/CN=kube-apiserver", "extendedKeyUsage=clientAuth", curve)
        self._openssl("genrsa", "-out", "accounts.key", "2048")
        rows = []
        for name, (user, group) in USERS.items():
            token = secrets.token_hex(16)
            rows.append(f'{token},{user},{user},"{group}"')
            write(self.kubeconfig(name), self._kubeconfig(token))
        write(self.tokens, "\n".join(rows) + "\n")

    def _signed(self, name: str, subject: str, extension: str, curve: tuple[str, ...]) -> None:
        write(self.folder / f"{name}.ext", extension + "\n")
        self._openssl("req", *curve, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip

    def _openssl(self, *argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=self.folder, check=True, capture_output=True)

    def _kubeconfig(self, token: str) -> str:
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "rig", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
                "users": [{"name": "rig", "user": {"token": token}}],
                "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "rig"}}],
                "current-context": "rig",
            }
        )
