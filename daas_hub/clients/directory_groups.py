"""The groups of a person, also those that her groups are members of: three ways for three kinds of directories.

Blocking; runs in a thread, inside one conversation. An answer that is not whole is no answer: a group that is missing
silently would take somebody's access.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from daas_hub.core.directory import Attributes, escape, first
from daas_hub.core.directory_ad import domain_of, primary_group_sid, sid_filter
from daas_hub.core.directory_flavours import NestedGroups
from daas_hub.core.errors import DirectoryUnavailable

from .directory_session import Entry, Session

AT_ONCE = 50
"""Groups asked for in one search."""
IN_CHAIN = "member:1.2.840.113556.1.4.1941:"


@dataclass(frozen=True)
class GroupSettings:
    """Where groups are, and how they nest."""

    base: str
    """DN below which groups count; empty: none are read."""
    direct: str
    """Filter of the groups that a person herself is in, with ``{name}``, ``{dn}``, ``{gid}``."""
    condition: str = ""
    nested: NestedGroups = NestedGroups.NONE
    depth: int = 10
    name_attribute: str = "cn"
    member_attribute: str = "member"


class Groups:
    """The groups of people in one conversation."""

    def __init__(self, service: Session, settings: GroupSettings) -> None:
        self._service, self._settings = service, settings
        wanted = {"cn", settings.name_attribute, "gidNumber", "objectSid"}
        self._wanted = sorted(wanted | ({"memberOf"} if settings.nested is NestedGroups.MEMBEROF else set()))

    def of(self, name: str, person: Attributes) -> list[Entry]:
        """All groups of an entry. Raises DirectoryUnavailable, also where they nest deeper than allowed."""
        nested = self._settings.nested
        if not self._settings.base:
            return []
        if nested is NestedGroups.TOKEN_GROUPS:
            return self._by_token(person)
        if nested is NestedGroups.IN_CHAIN:
            return self._in_chain(person)
        values = {"name": name, "dn": first(person, "dn") or "", "gid": first(person, "gidNumber") or "-1"}
        direct = self._search(fill(self._settings.direct, values)) + self._primary(person)
        if nested is NestedGroups.MEMBER:
            return self._upwards(direct, self._holding)
        if nested is NestedGroups.MEMBEROF:
            named = self._named(list(person.get("memberof") or ()))
            return self._upwards([*direct, *named], self._named_by)
        return list(_by_dn(direct).values())

    # ------------------------------------------------------------ Active Directory's own answers

    def _by_token(self, person: Attributes) -> list[Entry]:
        dn = first(person, "dn") or ""
        found = self._service.search(dn, "(objectClass=*)", ["tokenGroups"], subtree=False)
        sids = [sid for entry in found for sid in entry.get("tokengroups", [])]
        if not sids:
            # Everybody has a primary group at least: nothing means that it may not be read.
            raise self._incomplete(
                f"tokenGroups of {dn} cannot be read; put the service account into the group Windows Authorization "
                "Access Group, or set nested_groups to in_chain"
            )
        groups: list[Entry] = []
        for some in _parts(sids):
            groups += self._search(f"(|{''.join(map(sid_filter, some))})")
        return groups

    def _in_chain(self, person: Attributes) -> list[Entry]:
        primary = self._primary(person)
        dns = [first(person, "dn") or "", *(group["dn"][0] for group in primary)]
        found = self._search(f"(|{''.join(f'({IN_CHAIN}={escape(dn)})' for dn in dns)})")
        return list(_by_dn([*found, *self._below_base(primary)]).values())

    def _primary(self, person: Attributes) -> list[Entry]:
        """Her primary group, wherever in the domain it is; it has no ``member`` for her."""
        sid = primary_group_sid(person)
        if sid is None:
            return []
        base = domain_of(first(person, "dn") or "") or self._settings.base
        return self._service.search(base, self._with_condition(sid_filter(sid)), self._wanted)

    # ------------------------------------------------------------ level by level

    def _upwards(self, direct: Sequence[Entry], parents: Callable[[Sequence[Entry]], Iterable[Entry]]) -> list[Entry]:
        """With the groups above, each once however they hold each other."""
        seen, level = _by_dn(direct), list(_by_dn(direct).values())
        for depth in range(self._settings.depth + 1):
            above = _by_dn(parents(level))
            level = [group for dn, group in above.items() if dn not in seen]
            if not level:
                return self._below_base(seen.values())
            if depth == self._settings.depth:
                raise self._incomplete(f"groups nest deeper than nested_depth ({depth}), as {level[0]['dn'][0]}")
            seen.update({dn: group for dn, group in above.items() if dn not in seen})
        return self._below_base(seen.values())

    def _holding(self, groups: Sequence[Entry]) -> Iterator[Entry]:
        """The groups that have one of these as a member."""
        for some in _parts([group["dn"][0] for group in groups]):
            yield from self._search(f"(|{''.join(f'({self._settings.member_attribute}={escape(dn)})' for dn in some)})")

    def _named_by(self, groups: Sequence[Entry]) -> Iterator[Entry]:
        """The groups that these name in their own memberOf."""
        return iter(self._named(sorted({dn for group in groups for dn in group.get("memberof", [])})))

    def _named(self, dns: Sequence[str]) -> list[Entry]:
        query = self._settings.condition or "(objectClass=*)"
        return [e for dn in dns for e in self._service.search(dn, query, self._wanted, subtree=False)]

    # ------------------------------------------------------------ searches

    def _search(self, query: str) -> list[Entry]:
        return self._service.search(self._settings.base, self._with_condition(query), self._wanted)

    def _with_condition(self, query: str) -> str:
        return f"(&{self._settings.condition}{query})" if self._settings.condition else query

    def _below_base(self, groups: Iterable[Entry]) -> list[Entry]:
        base = _compact(self._settings.base)
        return [g for g in groups if _compact(g["dn"][0]).endswith(f",{base}")]

    def _incomplete(self, detail: str) -> DirectoryUnavailable:
        return self._service.incomplete(detail)


def fill(template: str, values: Mapping[str, str]) -> str:
    """A filter with its ``{name}``, ``{dn}``, ``{gid}`` replaced, each escaped, in one pass."""
    return re.sub(r"\{(\w+)\}", lambda match: escape(values[match[1]]), template)


def _by_dn(groups: Iterable[Entry]) -> dict[str, Entry]:
    return {group["dn"][0].lower(): group for group in groups}


def _compact(dn: str) -> str:
    """A DN for comparing ends: no blanks around its commas, no case."""
    return re.sub(r"\s*,\s*", ",", dn).lower()


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(values), AT_ONCE):
        yield values[at : at + AT_ONCE]
