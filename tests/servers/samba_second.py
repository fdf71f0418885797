"""A second controller of the same domain: joined for real, with replication from and to the first one.

Controllers find each other by name. Both get their own ``/etc/hosts``, resolver and Kerberos settings, in a mount
namespace of each process, so nothing of the machine changes.
"""

from __future__ import annotations

from pathlib import Path

from tests.servers.samba import ADMIN_PASSWORD, DOMAIN, REALM, Samba, find, run

MOUNT = 'mount --bind "$0/hosts" /etc/hosts; mount --bind "$0/resolv.conf" /etc/resolv.conf; exec "$@"'


class SecondSamba(Samba):
    """Joins the domain of ``first``, which must run."""

    def __init__(self, root: Path, first: Samba) -> None:
        super().__init__(root, "dc2")
        self._first = first

    def argv(self) -> list[str]:
        """The daemon, where the first controller's name leads to it."""
        return self._named(super().argv())

    def _named(self, argv: list[str]) -> list[str]:
        files = {
            "hosts": f"127.0.0.1 localhost\n{self._first.address} dc1.{REALM} dc1\n{self.address} dc2.{REALM} dc2\n",
            "resolv.conf": f"search {REALM}\nnameserver {self._first.address}\n",
            "krb5.conf": f"[libdefaults]\ndefault_realm = {REALM.upper()}\ndns_lookup_kdc = false\n"
            f"[realms]\n{REALM.upper()} = {{\nkdc = {self._first.address}\n}}\n",
        }
        for name, text in files.items():
            (self.root / name).write_text(text)
        environment = ["env", f"KRB5_CONFIG={self.root / 'krb5.conf'}"]
        return ["unshare", "-m", "--propagation", "private", *environment, "sh", "-c", MOUNT, str(self.root), *argv]

    def _provision(self) -> None:
        # What a controller's daemon does by itself when it may change DNS: the names under which tickets are given.
        run([str(find("samba_spnupdate")), "-s", str(self._first.config)])
        argv = ["samba-tool", "domain", "join", REALM, "DC", f"--server=dc1.{REALM}", "--use-kerberos=required"]
        argv += ["-U", f"Administrator@{REALM.upper()}", f"--password={ADMIN_PASSWORD}"]
        argv += [f"--targetdir={self.root / 'dc'}", f"--option=workgroup={DOMAIN}", f"--option=realm={REALM.upper()}"]
        argv += [f"--option=netbios name={self.name.upper()}", *self.options()]
        run(self._named(argv))
