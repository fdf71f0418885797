"""Keycloak 26: downloaded by Maven and built once into the cache folder, then one process for a whole run.

``python -m tests.servers.keycloak`` only makes what is missing; ``scripts/test`` does that while other tests run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from daas_hub.demo.setup import cache_root, say
from tests.servers.forgeries import CLIENT, SECRET
from tests.servers.hub import http_call
from tests.servers.ports import free_port
from tests.waiting import until

VERSION = "26.0.0"
SHA256 = "f92a47f6d14c6f23fef9f08cb7d0c5ee7aa3a2408ebfcf9c5ba2277f4978ef7e"
REALM = "lab"
ADMIN, ADMIN_PASSWORD = "admin", "admin-secret"
JAVA = {
    # It starts once and serves a handful of people: a small heap, and no time for the better compiler.
    "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx384m",
    "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
}


def possible() -> bool:
    """Whether this machine has it, or can make it."""
    return (shutil.which("java") is not None and (_target() / "complete").exists()) or shutil.which("mvn") is not None


def _target() -> Path:
    return cache_root() / f"keycloak-{VERSION}-{SHA256[:8]}"


def ensure() -> Path:
    """The built folder, made first where the cache lacks it: some 150 MB from Maven's repository. Blocks."""
    target = _target()
    target.mkdir(parents=True, exist_ok=True)
    with (target / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (target / "complete").exists():
            say(f"Getting Keycloak {VERSION} into {target} (once; a minute or two).")
            _make(target)
            (target / "complete").touch()
    return target / f"keycloak-{VERSION}"


def _make(target: Path) -> None:
    artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
    shutil.rmtree(target / f"keycloak-{VERSION}", ignore_errors=True)
    copy = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={target}"]
    _run(copy, target)
    archive = target / f"keycloak-quarkus-dist-{VERSION}.zip"
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        archive.unlink()
        raise RuntimeError(f"{archive.name} has the hash {found}, not {SHA256}.")
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(target)
    archive.unlink()
    program = target / f"keycloak-{VERSION}" / "bin" / "kc.sh"
    program.chmod(0o755)
    _run([str(program), "build", "--db=dev-mem"], target)


def _run(argv: list[str], folder: Path) -> None:
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, **JAVA},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-2000:]}")


class Keycloak:
    """One server with the realm ``lab``; nothing of it outlives the process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.management_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.issuer = f"{self.url}/realms/{REALM}"
        self.log = root / "keycloak.log"
        self.process: subprocess.Popen[bytes] | None = None

    def env(self) -> dict[str, str]:
        """Nothing that others need."""
        return {}

    async def start(self) -> Keycloak:
        """Start it, wait, make the realm."""
        argv = [str(ensure() / "bin" / "kc.sh"), "start", "--optimized", "--http-enabled=true", "--cache=local"]
        argv += ["--http-host=127.0.0.1", f"--http-port={self.port}", f"--hostname={self.url}"]
        argv += [f"--http-management-port={self.management_port}"]
        admin = {"KC_BOOTSTRAP_ADMIN_USERNAME": ADMIN, "KC_BOOTSTRAP_ADMIN_PASSWORD": ADMIN_PASSWORD}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, **JAVA, **admin},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await until(self._answers, within_s=280, what=f"Keycloak; its log: {self.log}", every_s=0.5)
        self._realm()
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        try:
            return http_call("GET", f"{self.url}/realms/master", None, {})[0] == 200
        except OSError:
            return False

    async def stop(self) -> None:
        """End it, with the shell that started it."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(60)
        self.process = None

    # ------------------------------------------------------------ as its administrator

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the administrator's interface; fails unless it is done."""
        form = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": ADMIN_PASSWORD}
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        token_url = f"{self.url}/realms/master/protocol/openid-connect/token"
        _, answer = http_call("POST", token_url, urlencode(form).encode(), kind)
        headers = {"Authorization": f"Bearer {answer['access_token']}", "Content-Type": "application/json"}
        status, said = http_call(method, f"{self.url}/admin/realms{path}", body, headers)
        assert status in (200, 201, 204), (method, path, status, said)
        return said

    def _realm(self) -> None:
        self.api("POST", "", {"realm": REALM, "enabled": True, "revokeRefreshToken": True, "refreshTokenMaxReuse": 0})
        profile = self.api("GET", f"/{REALM}/users/profile")
        self.api("PUT", f"/{REALM}/users/profile", {**profile, "unmanagedAttributePolicy": "ADMIN_EDIT"})
        for name in ("lab", "operators"):
            self.api("POST", f"/{REALM}/groups", {"name": name})

    def client(
        self, base: str, *, client_id: str = CLIENT, callback: str = "/hub/oauth_callback", **attributes: str
    ) -> None:
        """Register the hub at ``base`` as this client; an earlier one is forgotten."""
        for old in self.api("GET", f"/{REALM}/clients?clientId={client_id}"):
            self.api("DELETE", f"/{REALM}/clients/{old['id']}")
        both = {"id.token.claim": "true", "userinfo.token.claim": "true"}
        mappers = [_mapper("groups", "oidc-group-membership-mapper", {"full.path": "false", **both})]
        for name, kind in (("uidNumber", "long"), ("gidNumber", "long"), ("homeDirectory", "String")):
            more = {"user.attribute": name, "jsonType.label": kind, **both}
            mappers.append(_mapper(name, "oidc-usermodel-attribute-mapper", more))
        self.api(
            "POST",
            f"/{REALM}/clients",
            {
                "clientId": client_id,
                "secret": SECRET,
                "redirectUris": [f"{base}{callback}"],
                "directAccessGrantsEnabled": False,
                "attributes": {
                    "pkce.code.challenge.method": "S256",
                    "post.logout.redirect.uris": f"{base}/hub/login",
                    **attributes,
                },
                "protocolMappers": mappers,
            },
        )

    def person(self, name: str, *, groups: tuple[str, ...] = ("lab",), **attributes: str | int) -> None:
        """Somebody new; her password is ``<name>-secret``."""
        self.api(
            "POST",
            f"/{REALM}/users",
            {
                "username": name,
                "enabled": True,
                "email": f"{name}@site.test",
                "emailVerified": True,
                "firstName": name.title(),
                "lastName": "Test",
                "credentials": [{"type": "password", "value": f"{name}-secret", "temporary": False}],
                "groups": list(groups),
                "attributes": {key: [str(value)] for key, value in attributes.items()},
            },
        )

    def change(self, name: str, **what: Any) -> None:
        """Change somebody: ``enabled=False``, for example."""
        found = self.api("GET", f"/{REALM}/users?username={name}&exact=true")[0]
        self.api("PUT", f"/{REALM}/users/{found['id']}", {**found, **what})

    def end_sessions(self, name: str) -> None:
        """End all her sessions, as the administrator's button does."""
        found = self.api("GET", f"/{REALM}/users?username={name}&exact=true")[0]
        self.api("POST", f"/{REALM}/users/{found['id']}/logout")


def _mapper(name: str, kind: str, config: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": {"claim.name": name, "access.token.claim": "false", **config},
    }


if __name__ == "__main__":
    if possible():
        ensure()
    sys.exit(0)
