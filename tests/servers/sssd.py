"""A real sssd over an Active Directory, in a private root of its own: this machine's /etc and NSS stay as they are.

The root is Debian with sssd-ldap and libnss-sss, made once (scripts/lib/engines.py) and never written to: each server
has a layer of its own over it, in memory and in its own mount and process namespaces, and both are gone with it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import until

ROOT = Path("/var/tmp") / f"daas-hub-tests-{os.getuid()}" / "sssd"
"""Debian with sssd; as in scripts/lib/engines.py."""

CONFIG = """
[sssd]
services = nss
domains = site
[domain/site]
id_provider = ldap
access_provider = permit
auth_provider = none
ldap_schema = ad
ldap_uri = {uri}
ldap_search_base = {base}
ldap_default_bind_dn = {bind_dn}
ldap_default_authtok = {password}
ldap_tls_cacert = /etc/sssd/ca.pem
ldap_tls_reqcert = demand
ldap_referrals = false
ldap_use_tokengroups = true
fallback_homedir = /home/%u
{more}
"""

INSIDE = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
cp "$3" "$1/root/etc/sssd/sssd.conf"
cp "$4" "$1/root/etc/sssd/ca.pem"
chmod 600 "$1/root/etc/sssd/sssd.conf"
exec chroot "$1/root" /usr/sbin/sssd -i --logger=stderr -d 2
"""


ASK = """
for name; do
    printf '%s|%s|' "$(getent -s sss passwd "$name")" "$(id -G "$name" 2>/dev/null)"
    id -Gnz "$name" 2>/dev/null | tr '\\0' '|'
    echo
done
"""


@dataclass(frozen=True)
class Person:
    """What NSS says of one person there: numbers, home, shell, and her groups by name."""

    uid: int
    gid: int
    home: str
    shell: str
    groups: frozenset[tuple[str, int]]


def available() -> bool:
    """Whether this machine has the root, and may make namespaces."""
    tools = all(shutil.which(program) for program in ("unshare", "nsenter", "mount", "chroot"))
    return tools and os.geteuid() == 0 and (ROOT / "usr/sbin/sssd").exists()


class Sssd:
    """One sssd. ``more``: further lines of its domain, as ``ldap_id_mapping = true``."""

    def __init__(
        self, root: Path, *, uri: str, base: str, bind_dn: str, password: str, ca_file: Path, more: str
    ) -> None:
        self.root, self._ca_file = root, ca_file
        self.log = root / "sssd.log"
        self._config = CONFIG.format(uri=uri, base=base, bind_dn=bind_dn, password=password, more=more)
        self.process: subprocess.Popen[bytes] | None = None

    def env(self) -> dict[str, str]:
        """Nothing that others need."""
        return {}

    async def start(self) -> Sssd:
        """Start it and wait until its NSS answers."""
        config, place = self.root / "sssd.conf", self.root / "place"
        place.mkdir()
        config.write_text(self._config)
        config.chmod(0o600)
        words = [place, ROOT, config, self._ca_file]
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh", *map(str, words)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await until(self._answers, within_s=40, what=f"sssd; its log: {self.log}", every_s=0.2)
        return self

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        said = await asyncio.to_thread(self._run, "test", "-S", "/var/lib/sss/pipes/nss")
        return said.returncode == 0

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A program in its namespaces, where NSS asks it."""
        children = self._children()
        if not children:
            return subprocess.CompletedProcess(argv, 1, "", "not started yet")
        inside = [
            "nsenter",
            "-t",
            str(children[0]),
            "--mount",
            "--pid",
            "chroot",
            str(self.root / "place" / "root"),
            *argv,
        ]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    async def people(self, *names: str) -> dict[str, Person]:
        """What `getent` and `id` say there of these; whom sssd does not know is left out."""
        return await asyncio.to_thread(self._people, names)

    def _people(self, names: tuple[str, ...]) -> dict[str, Person]:
        said = self._run("sh", "-c", ASK, "sh", *names)
        assert said.returncode == 0, said.stderr
        found = {}
        for name, line in zip(names, said.stdout.splitlines(), strict=True):
            entry, numbers, groups = line.split("|", 2)
            if entry:
                _, _, uid, gid, _, home, shell = entry.split(":")
                both = zip(groups.removesuffix("|").split("|"), map(int, numbers.split()), strict=True)
                found[name] = Person(int(uid), int(gid), home, shell, frozenset(both))
        return found

    async def stop(self) -> None:
        """End it: the first process of its namespace, and with it all that is in there."""
        if self.process is not None and self.process.poll() is None:
            for child in self._children():
                os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(self.process.wait, 20)
        self.process = None

    def _children(self) -> list[int]:
        """The process that is the first one inside, as it is called outside."""
        assert self.process is not None
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]
