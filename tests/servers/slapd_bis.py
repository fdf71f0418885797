"""The same OpenLDAP with groups whose members are DNs (RFC 2307bis), groups in groups, and the memberof overlay."""

from __future__ import annotations

from pathlib import Path

from tests.servers.slapd import BASE, CONFIG, GROUPS, PEOPLE, Slapd

DEPTH = 5
NESTED = {
    "depth-1": PEOPLE["dora"].dn,
    **{f"depth-{n}": f"cn=depth-{n - 1},ou=groups,{BASE}" for n in range(2, DEPTH + 1)},
    "loop-a": PEOPLE["emil"].dn,
}
"""Group → its member: dora is in depth-1, which is in depth-2, …; emil is in loop-a, that in loop-b, that in loop-a."""


class SlapdBis(Slapd):
    """People as in ``slapd.py``; `dora` and `emil` are in nested groups, too."""

    def config_text(self) -> str:
        """With the other schema, and `memberOf` kept by the server."""
        schema = f"include {Path(__file__).parent / 'rfc2307bis.schema'}"
        return (
            CONFIG.replace("include /etc/ldap/schema/nis.schema", schema)
            .replace("moduleload ppolicy", "moduleload ppolicy\nmoduleload memberof")
            .replace("overlay ppolicy", "overlay ppolicy\noverlay memberof")
        )

    def group_ldif(self) -> list[str]:
        """Groups of names, those of ``GROUPS`` with a gid."""
        entries = []
        for name, gid in GROUPS.items():
            members = "".join(f"\nmember: {p.dn}" for p in PEOPLE.values() if name in p.groups)
            entries.append(
                f"dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\nobjectClass: posixGroup\n"
                f"cn: {name}\ngidNumber: {gid}{members}"
            )
        for name, member in NESTED.items():
            entries.append(f"dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: {name}\nmember: {member}")
        loop = (
            f"dn: cn=loop-b,ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: loop-b\nmember: cn=loop-a,ou=groups,{BASE}"
        )
        back = f"dn: cn=loop-a,ou=groups,{BASE}\nchangetype: modify\nadd: member\nmember: cn=loop-b,ou=groups,{BASE}"
        return [*entries, loop, back]
