"""What stands beside a pod: its Secrets, and the ConfigMap with the launcher. Pure but for ``read``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from daas_hub.clients.passwd_files import with_lines
from daas_hub.core.models import Json, LaunchSpec
from daas_hub.core.pods import MANIFEST_MARK, MAX_PACKED, PACKAGES_MARK

from .kube_pod import SCRATCH_AT, SECRET_AT, TLS_FILES, Names, labels_of

MANIFEST_AT = "/usr/local/share/daas/manifest.json"
"""Where an image may say what it is made of; the launcher prints its beginning, and all of it packed."""

LAUNCHER = f"""#!/bin/sh
# Sets the variables that nobody else may read, then becomes the server.
for file in {SECRET_AT}/*; do
    value=$(cat "$file") || exit 78
    export "${{file##*/}}=$value"
done
for folder in runtime data config lab/user-settings lab/workspaces ipython; do
    mkdir -p "{SCRATCH_AT}/$folder" || exit 78
done
if [ -r {MANIFEST_AT} ]; then
    sum=$(sha256sum <{MANIFEST_AT} 2>/dev/null)
    echo "{MANIFEST_MARK} $(head -c 400 {MANIFEST_AT} 2>/dev/null | tr -d '\\n') ${{sum%% *}}"
    packed=$({{ gzip -9 <{MANIFEST_AT} | base64 | tr -d '\\n'; }} 2>/dev/null)
    if [ -n "$packed" ] && [ "${{#packed}}" -le {MAX_PACKED} ]; then
        echo "{PACKAGES_MARK} $packed"
    fi
fi
if [ ! -w "$HOME" ]; then
    echo "The home $HOME cannot be written by uid $(id -u)." >&2
fi
cd "$1" 2>/dev/null || cd /
shift
exec "$@"
"""
BASE_USERS = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
BASE_GROUPS = "root:x:0:\nnogroup:x:65534:\n"


def read(certificates: Mapping[str, str]) -> dict[str, str]:
    """The texts of these files. Blocks."""
    return {kind: Path(path).read_text() for kind, path in certificates.items() if kind in TLS_FILES}


def secret_of(spec: LaunchSpec, names: Names, certificates: Mapping[str, str] = MappingProxyType({})) -> Json:
    """The Secret with the variables that only the server may read, and with its certificates (TLS_FILES → PEM)."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.secret, "namespace": names.namespace, "labels": labels_of(spec)},
        "immutable": True,
        "stringData": {**spec.secrets, **certificates},
    }


def site_tokens_of(spec: LaunchSpec, names: Names) -> Json:
    """The Secret for tokens of other services, empty until the first are handed over."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.site_tokens, "namespace": names.namespace, "labels": labels_of(spec)},
    }


def files_of(spec: LaunchSpec, names: Names) -> Json:
    """The ConfigMap with the launcher and the account's lines of passwd and group."""
    passwd, group = with_lines(spec.account, BASE_USERS, BASE_GROUPS)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.files, "namespace": names.namespace, "labels": labels_of(spec)},
        "immutable": True,
        "data": {"launch": LAUNCHER, "passwd": passwd, "group": group},
    }
