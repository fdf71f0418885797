"""A real OpenLDAP server with its own CA, on free ports of the loopback interface.

People of the tests: ``ada``, ``bob``, ``dora`` and ``emil`` (group lab), ``boss`` (groups lab and operators), ``carl``
(groups lab and beam), ``eve`` (no group), ``locked`` (by ppolicy), ``noposix`` (no uidNumber). Everybody's password is
``<name>-secret``.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers.ports import free_port
from tests.waiting import until

BASE = "dc=site,dc=test"
SERVICE_DN = f"cn=daas-hub,{BASE}"
SERVICE_PASSWORD = "service-secret"
ADMIN_DN = f"cn=admin,{BASE}"
ADMIN_PASSWORD = "admin-secret"


@dataclass(frozen=True)
class Entry:
    """One person of the directory."""

    name: str
    uid: int
    groups: tuple[str, ...]
    gid: int = 30001

    @property
    def dn(self) -> str:
        return f"uid={self.name},ou=people,{BASE}"

    @property
    def password(self) -> str:
        return f"{self.name}-secret"


PEOPLE = {
    p.name: p
    for p in (
        Entry("ada", 20001, ("lab",)),
        Entry("bob", 20002, ("lab",)),
        Entry("boss", 20003, ("lab", "operators")),
        Entry("eve", 20004, (), 30003),
        Entry("locked", 20005, ("lab",)),
        Entry("rooted", 0, ("lab",)),
        Entry("carl", 20006, ("lab", "beam"), 30003),
        Entry("dora", 20007, ("lab",)),
        Entry("emil", 20008, ("lab",)),
    )
}
GROUPS = {"lab": 30001, "operators": 30002, "beam": 30003}


def find(name: str) -> str:
    """A program that Debian keeps in sbin."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/lib/ldap")
    assert path, f"{name} is not installed"
    return path


class Slapd:
    """One server. ``homes``: the folder of people's home folders."""

    def __init__(self, root: Path, homes: Path) -> None:
        self.root = root
        self.homes = homes
        self.port, self.tls_port = free_port(), free_port()
        self.log = root / "slapd.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Plain port, for StartTLS."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_uri(self) -> str:
        """TLS port."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def ca_file(self) -> Path:
        """The CA that signed the server's certificate."""
        return self.root / "ca.pem"

    @property
    def password_file(self) -> Path:
        """The service account's password."""
        path = self.root / "service_password"
        path.write_text(SERVICE_PASSWORD + "\n")
        path.chmod(0o600)
        return path

    def env(self) -> dict[str, str]:
        """Nothing that others need."""
        return {}

    async def start(self) -> Slapd:
        """Make certificates and data, start, wait until it answers."""
        await asyncio.to_thread(self._prepare)
        await self.run()
        await asyncio.to_thread(self._ldap, "ldapadd", self._ldif())
        return self

    async def run(self) -> None:
        """Start the daemon on the data that is there."""
        argv = [find("slapd"), "-f", str(self.root / "slapd.conf"), "-h", f"{self.uri} {self.tls_uri}", "-d", "stats"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        await until(self._answers, within_s=20, what=f"slapd; its log: {self.log}", every_s=0.05)

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 20)
        self.process = None

    async def modify(self, ldif: str) -> None:
        """Change entries, as the directory's administrator."""
        await asyncio.to_thread(self._ldap, "ldapmodify", ldif)

    async def add(self, ldif: str) -> None:
        """Add entries, as the directory's administrator."""
        await asyncio.to_thread(self._ldap, "ldapadd", ldif)

    def _ldap(self, program: str, ldif: str) -> None:
        argv = [program, "-x", "-H", self.uri, "-D", ADMIN_DN, "-w", ADMIN_PASSWORD]
        done = subprocess.run(argv, input=ldif.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def _prepare(self) -> None:
        data = self.root / "data"
        data.mkdir(mode=0o700)
        _same_certificates(self.root)
        (self.root / "slapd.conf").write_text(self.config_text().format(root=self.root, base=BASE, admin=ADMIN_DN))

    def _ldif(self) -> str:
        entries = [
            f"dn: {BASE}\nobjectClass: domain\ndc: site",
            *(f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}" for unit in ("people", "groups")),
            f"dn: {SERVICE_DN}\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\n"
            f"cn: daas-hub\nuserPassword: {SERVICE_PASSWORD}",
            f"dn: uid=noposix,ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: noposix\ncn: No Posix\nsn: Posix\n"
            "userPassword: noposix-secret",
        ]
        for p in PEOPLE.values():
            lock = "\npwdAccountLockedTime: 000001010000Z" if p.name == "locked" else ""
            entries.append(
                f"dn: {p.dn}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: {p.name}\n"
                f"cn: {p.name.title()} Test\nsn: Test\nmail: {p.name}@site.test\nuidNumber: {p.uid}\n"
                f"gidNumber: {p.gid}\nhomeDirectory: {self.homes}/{p.name}\nloginShell: /bin/bash\n"
                f"userPassword: {p.password}{lock}"
            )
        return "\n\n".join([*entries, *self.group_ldif()]) + "\n"

    def config_text(self) -> str:
        """The slapd.conf, with ``{root}``, ``{base}``, ``{admin}``."""
        return CONFIG

    def group_ldif(self) -> list[str]:
        """The entries of groups."""
        entries = []
        for name, gid in GROUPS.items():
            members = "".join(f"\nmemberUid: {p.name}" for p in PEOPLE.values() if name in p.groups)
            entries.append(
                f"dn: cn={name},ou=groups,{BASE}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: {gid}{members}"
            )
        return entries


_made: dict[str, bytes] = {}


def _same_certificates(root: Path) -> None:
    """Made once in a run: keys take longer than everything else that a test does with the server."""
    if not _made:
        certificates(root)
        _made.update({name: (root / name).read_bytes() for name in ("ca.pem", "server.pem", "server.key")})
    for name, content in _made.items():
        (root / name).write_bytes(content)


def certificates(root: Path, address: str = "127.0.0.1") -> None:
    """A CA, and a certificate of it for `address`, localhost and `directory`, a name that tests may give it."""
    openssl = find("openssl")

    def run(*argv: str) -> None:
        subprocess.run([openssl, *argv], check=True, capture_output=True, cwd=root)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Test CA", "-keyout", "ca.key",
        "-out", "ca.pem")  # fmt: skip
    run(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={address}", "-keyout", "server.key", "-out", "server.csr"
    )
    (root / "san").write_text(f"subjectAltName=IP:{address},DNS:localhost,DNS:directory\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
        "-extfile", "san", "-out", "server.pem")  # fmt: skip


CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile {root}/slapd.pid
TLSCACertificateFile {root}/ca.pem
TLSCertificateFile {root}/server.pem
TLSCertificateKeyFile {root}/server.key
sizelimit 50
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw admin-secret
directory {root}/data
overlay ppolicy
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=daas-hub,{base}" read by anonymous auth by * none
"""
