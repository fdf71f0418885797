"""Which parts of a pod are ours, as paths. Pure; the reference shows them and a differential test reads them."""

from __future__ import annotations

from collections.abc import Mapping

OWNED: Mapping[str, str] = {
    "metadata.name": "by the launch, so that no old pod is in a new one's way",
    "metadata.namespace": "`KubeBackend.namespace`",
    "metadata.labels.daas-hub/*": "hub, launch, account, component",
    "metadata.annotations.daas-hub/*": "user, server, uid, prefix, note",
    "spec.restartPolicy": "`Never`: a server that has ended has ended",
    "spec.enableServiceLinks": "off: other people's services are nobody's variables",
    "spec.automountServiceAccountToken": "off",
    "spec.serviceAccountName": "none",
    "spec.securityContext": "uid, gids, seccomp, never root",
    "spec.hostNetwork, hostPID, hostIPC, hostUsers": "none",
    "spec.hostname, subdomain": "the pod's name and `KubeBackend.server_service`, with `internal_ssl` only",
    "spec.volumes[daas-*]": "home, Secret, certificate, files, scratch, tokens for other services",
    "spec.containers[*].securityContext": "no capability, no privilege escalation",
    "spec.initContainers[*].securityContext": "the same",
    "notebook.args": "the launcher and its folder stand before the server's own",
    "notebook.workingDir": "the launcher goes there",
    "notebook.lifecycle": "left out where it is empty",
    "notebook.volumeMounts[daas-*]": "and every mount at one of their places",
    "notebook.env": "`HOME USER LOGNAME SHELL DAAS_LAUNCH_ID DAAS_SITE_TOKENS`, the address and certificate, "
    "Jupyter's folders; never a token",
}
"""Path → why. Everything else is what an unmodified KubeSpawner submits."""
