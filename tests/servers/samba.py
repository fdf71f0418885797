"""A real Active Directory: Samba's domain controller, on a loopback address of its own (389, 636, 3268, 88).

People of the tests have the password ``<name>-secret`` and, unless it says otherwise, POSIX attributes. See ``PEOPLE``.
"""

from __future__ import annotations

import asyncio
import base64
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.slapd import certificates
from tests.waiting import until

REALM, DOMAIN = "site.test", "SITE"
BASE = "DC=site,DC=test"
PEOPLE_BASE, GROUPS_BASE = f"OU=People,{BASE}", f"OU=Groups,{BASE}"
ADMIN_DN, ADMIN_PASSWORD = f"CN=Administrator,CN=Users,{BASE}", "Admin-secret-1"
SERVICE_DN, SERVICE_PASSWORD = f"CN=daas-hub,OU=Services,{BASE}", "service-secret"
LOCKOUT_AFTER = 25
"""Wrong passwords until an account is locked out."""
CROWD = 1600
NEVER = "9223372036854775807"


@dataclass(frozen=True)
class Person:
    """One user. ``state``: the LDIF lines that make her what her name says."""

    name: str
    uid: int
    groups: tuple[str, ...] = ("lab",)
    posix: bool = True
    control: int = 512
    state: str = ""

    @property
    def dn(self) -> str:
        return f"CN={self.name.title()} Test,{PEOPLE_BASE}"

    @property
    def password(self) -> str:
        return f"{self.name}-secret"


PEOPLE = {
    p.name: p
    for p in (
        Person("ada", 20001, ("lab", "crowd")),
        Person("bob", 20002),
        Person("boss", 20003, ("lab", "operators")),
        Person("eve", 20004, ()),
        Person("carl", 20006, ("lab", "beam")),
        Person("dora", 20007),
        Person("emil", 20008),
        Person("fay", 20009),
        Person("gus", 20010),
        Person("deep", 20011, ("depth-1",)),
        Person("loopy", 20012, ("loop-a",)),
        Person("prima", 20013, ("physics",)),
        Person("noposix", 0, posix=False),
        Person("disabled", 20020, control=514),
        Person("expired", 20021, state="accountExpires: 116444736000000000\n"),
        Person("mustchange", 20022, state="pwdLastSet: 0\n"),
        Person("lockedout", 20023),
    )
}
"""deep: five groups, one in the other; loopy: loop-a holds loop-b holds loop-a; prima: her primary group is physics,
which is in science; ada is one of the 1,600 members of crowd; eve is in Domain Users only, as everybody else is."""
GIDS = {"lab": 30001, "operators": 30002, "beam": 30003, "physics": 30004}
INSIDE = {f"depth-{n + 1}": (f"depth-{n}",) for n in range(1, 5)} | {
    "loop-a": ("loop-b",),
    "loop-b": ("loop-a",),
    "science": ("physics",),
}
"""Group → groups that are its members."""
NAMES = [
    "lab",
    "operators",
    "beam",
    "physics",
    "science",
    "crowd",
    "loop-a",
    "loop-b",
    *(f"depth-{n}" for n in range(1, 6)),
]


def available() -> bool:
    """Whether this machine can run a controller."""
    there = all(
        find(program) for program in ("samba", "samba-tool", "samba_spnupdate", "ldbmodify", "ldapmodify", "unshare")
    )
    return there and os.geteuid() == 0 and Path("/usr/share/samba/setup/provision.ldif").exists()


def find(name: str) -> str | None:
    """A program that Debian keeps in sbin."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def free_address() -> str:
    """A loopback address where nobody listens on the ports of a controller."""
    while True:
        address = f"127.{random.randint(100, 250)}.{random.randint(1, 250)}.{random.randint(2, 250)}"
        try:
            for port in (53, 88, 135, 389, 636, 3268):
                with socket.socket() as s:
                    s.bind((address, port))
        except OSError:
            continue
        return address


class Samba:
    """One controller of the domain ``SITE``."""

    def __init__(self, root: Path, name: str = "dc1") -> None:
        self.root, self.name = root, name
        self.address = free_address()
        self.log = root / "samba.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """For StartTLS; a bind without TLS is refused, as Active Directory does."""
        return f"ldap://{self.address}:389"

    @property
    def tls_uri(self) -> str:
        """TLS port."""
        return f"ldaps://{self.address}:636"

    @property
    def ca_file(self) -> Path:
        """The CA that signed the controller's certificate."""
        return self.root / "ca.pem"

    @property
    def password_file(self) -> Path:
        """The service account's password."""
        path = self.root / "service_password"
        path.write_text(SERVICE_PASSWORD + "\n")
        path.chmod(0o600)
        return path

    @property
    def config(self) -> Path:
        """The smb.conf that the provision wrote."""
        return self.root / "dc" / "etc" / "smb.conf"

    def env(self) -> dict[str, str]:
        """Nothing that others need."""
        return {}

    async def start(self) -> Samba:
        """Make the domain and its people, start, wait until it answers."""
        await asyncio.to_thread(self._provision)
        await self.run()
        return self

    async def run(self) -> None:
        """Start the daemon on the data that is there."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await until(self._answers, within_s=60, what=f"samba; its log: {self.log}", every_s=0.1)

    def argv(self) -> list[str]:
        """The daemon."""
        return [str(find("samba")), "-i", "-M", "single", "-s", str(self.config)]

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        for port in (389, 636):
            try:
                _, writer = await asyncio.open_connection(self.address, port)
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
        """Change entries over LDAP, as the domain's administrator."""
        await asyncio.to_thread(self._ldapmodify, ldif)

    def _ldapmodify(self, ldif: str) -> None:
        argv = ["ldapmodify", "-x", "-H", self.tls_uri, "-D", ADMIN_DN, "-w", ADMIN_PASSWORD]
        env = {**os.environ, "LDAPTLS_CACERT": str(self.ca_file)}
        done = subprocess.run(argv, input=ldif.encode(), capture_output=True, check=False, env=env)
        assert done.returncode == 0, done.stderr.decode()

    async def value(self, dn: str, attribute: str) -> str:
        """One attribute of an entry as its administrator reads it; empty where it has none."""
        return await asyncio.to_thread(self._value, dn, attribute)

    def _value(self, dn: str, attribute: str) -> str:
        argv = [
            "ldapsearch",
            "-x",
            "-LLL",
            "-o",
            "ldif-wrap=no",
            "-H",
            self.tls_uri,
            "-D",
            ADMIN_DN,
            "-w",
            ADMIN_PASSWORD,
        ]
        env = {**os.environ, "LDAPTLS_CACERT": str(self.ca_file)}
        done = subprocess.run([*argv, "-b", dn, "-s", "base", attribute], capture_output=True, check=True, env=env)
        lines = done.stdout.decode().splitlines()
        return next((line.split(": ", 1)[1] for line in lines if line.lower().startswith(f"{attribute.lower()}: ")), "")

    def options(self) -> list[str]:
        """What a controller's smb.conf must say here, and its certificate and folder."""
        (self.root / "run").mkdir(mode=0o755)
        certificates(self.root, self.address)
        (self.root / "server.key").chmod(0o600)
        options = {
            "interfaces": f"{self.address}/8",
            "bind interfaces only": "yes",
            "vfs objects": "dfs_samba4 acl_xattr xattr_tdb",
            "server services": "ldap cldap kdc drepl rpc dns",
            "log file": str(self.root / "log.%m"),
            # Several controllers run on one machine; what is not below their own folder would be shared.
            "pid directory": str(self.root / "run"),
            "ncalrpc dir": str(self.root / "run" / "ncalrpc"),
            "winbindd socket directory": str(self.root / "run" / "winbindd"),
            "ntp signd socket directory": str(self.root / "run" / "ntp"),
            "dns forwarder": "none",
            "tls certfile": str(self.root / "server.pem"),
            "tls keyfile": str(self.root / "server.key"),
            "tls cafile": str(self.ca_file),
        }
        return [f"--option={key}={value}" for key, value in options.items()]

    def _provision(self) -> None:
        argv = ["samba-tool", "domain", "provision", "--use-rfc2307", f"--targetdir={self.root / 'dc'}"]
        argv += [f"--realm={REALM}", f"--domain={DOMAIN}", f"--host-name={self.name}", f"--host-ip={self.address}"]
        argv += [f"--adminpass={ADMIN_PASSWORD}", *self.options()]
        run(argv)
        local = ["-H", str(self.root / "dc" / "private" / "sam.ldb"), f"--configfile={self.config}"]
        run([str(find("ldbmodify")), *local], POLICY)
        run([str(find("ldbmodify")), *local], "\n".join(entries()))
        prima = PEOPLE["prima"].dn
        group = f"CN=physics,{GROUPS_BASE}"
        found = run([str(find("ldbsearch")), *local, "-b", group, "-s", "base", "objectSid"])
        rid = found.split("objectSid: ")[1].split()[0].rpartition("-")[2]
        change = f"dn: {prima}\nchangetype: modify\nreplace: primaryGroupID\nprimaryGroupID: {rid}\n"
        run([str(find("ldbmodify")), *local], change)


def run(argv: list[str], given: str = "") -> str:
    """What a program printed; it must succeed."""
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv[:3]}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return done.stdout


POLICY = f"""dn: {BASE}
changetype: modify
replace: pwdProperties
pwdProperties: 0
-
replace: minPwdLength
minPwdLength: 4
-
replace: minPwdAge
minPwdAge: 0
-
replace: maxPwdAge
maxPwdAge: -9223372036854775808
-
replace: lockoutThreshold
lockoutThreshold: {LOCKOUT_AFTER}
"""


def entries() -> Iterator[str]:
    """The LDIF of people and groups."""
    for unit in ("People", "Groups", "Services", "Crowd"):
        yield f"dn: OU={unit},{BASE}\nchangetype: add\nobjectClass: organizationalUnit\n"
    yield (
        f"dn: {SERVICE_DN}\nchangetype: add\nobjectClass: user\nsAMAccountName: daas-hub\nuserAccountControl: 512\n"
        f"{password_line(SERVICE_PASSWORD)}\n"
    )
    for person in PEOPLE.values():
        yield person_ldif(person)
    for n in range(CROWD - 1):
        yield f"dn: CN=c{n:04},OU=Crowd,{BASE}\nchangetype: add\nobjectClass: contact\n"
    for name in NAMES:
        gid = f"gidNumber: {GIDS[name]}\n" if name in GIDS else ""
        members = [p.dn for p in PEOPLE.values() if name in p.groups]
        if name == "crowd":
            members += [f"CN=c{n:04},OU=Crowd,{BASE}" for n in range(CROWD - 1)]
        lines = "".join(f"member: {dn}\n" for dn in members)
        yield f"dn: CN={name},{GROUPS_BASE}\nchangetype: add\nobjectClass: group\nsAMAccountName: {name}\n{gid}{lines}"
    for name, inside in INSIDE.items():
        lines = "".join(f"member: CN={other},{GROUPS_BASE}\n" for other in inside)
        yield f"dn: CN={name},{GROUPS_BASE}\nchangetype: modify\nadd: member\n{lines}"


def person_ldif(person: Person) -> str:
    """The entry of one user."""
    name = person.name
    posix = (
        f"uidNumber: {person.uid}\ngidNumber: {GIDS['lab']}\nunixHomeDirectory: /home/{name}\nloginShell: /bin/bash\n"
        if person.posix
        else ""
    )
    return (
        f"dn: {person.dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {name}\n"
        f"userPrincipalName: {name}.test@{REALM}\ndisplayName: {name.title()} Test\nmail: {name}.mail@post.test\n"
        f"homeDirectory: \\\\files\\{name}\nuserAccountControl: {person.control}\n"
        f"{password_line(person.password)}{posix}{person.state}"
    )


def password_line(password: str) -> str:
    """As Active Directory wants it: in quotes, UTF-16."""
    quoted = f'"{password}"'.encode("utf-16-le")
    return f"unicodePwd:: {base64.b64encode(quoted).decode()}\n"
