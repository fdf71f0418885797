"""Which folders a server sees, planned from the account, its groups, profile and site's rules (design §2, step 6).

On one machine the home is the account's own folder, and there is nothing to plan. In a cluster a site has rules
(``volume_rules.py``): homes, projects' folders, scratch space, each made by the cluster or by the site.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .errors import StartFailed
from .models import Account, AccountGroup, Json, Mount
from .naming import path_part
from .units import format_bytes, quantity_bytes
from .volume_rules import HOME, Kind, VolumeRule, inside


@dataclass(frozen=True)
class Planned:
    """One volume that a server is to see, before the ledger knows its id."""

    rule: str
    """The name of the site's rule."""
    name: str
    """What its row is called: the rule, and the group where there is one for each."""
    place: Json
    """Where the data is, as its row has it: another place is another volume."""
    path: str
    source: str
    read_only: bool = False
    own: bool = True
    """This account's and nobody else's."""
    group_gid: int | None = None
    """The gid of the group whose volume it is: by it the ledger knows the project. None: of no group."""

    def mount(self, volume_id: str, *, known: bool) -> Mount:
        """The mount of the volume of that id; ``known``: the ledger has seen it made."""
        return Mount(
            volume_id,
            self.source,
            self.path,
            self.read_only,
            known,
            rule=self.rule,
            name=self.name,
            place=self.place,
            own=self.own,
            group_gid=self.group_gid,
        )


def plan_home(account: Account, place: Json) -> tuple[Planned, ...]:
    """The home alone, where a backend has nothing else."""
    return (Planned(HOME, HOME, place, account.home, account.home),)


def plan(
    account: Account, groups: Collection[str], wanted: Sequence[str], rules: Mapping[str, VolumeRule]
) -> tuple[Planned, ...]:
    """The home, then each volume that the profile names, as far as it is open to her.

    ``groups``: those of the hub, by which a volume is open to her. A volume for each group is there for the groups of
    the account, because only those open files. Raises StartFailed(permanent=True) where a name is unknown or two
    volumes would lie in each other.
    """
    planned: list[Planned] = []
    for name in dict.fromkeys((HOME, *wanted)):
        rule = rules.get(name)
        if rule is None:
            known = ", ".join(rules)
            raise _impossible(f"The profile asks for the volume {name!r}, which is not known here; there is {known}.")
        planned += _of_groups(account, rule) if rule.of_groups else _alone(account, groups, rule)
    for one in planned:
        for other in planned:
            if one is not other and inside(one.path, other.path):
                raise _impossible(f"The volumes {one.name} ({one.path}) and {other.name} ({other.path}) overlap.")
    return tuple(planned)


def _impossible(what: str) -> StartFailed:
    return StartFailed(f"{what} Ask the administrator.", permanent=True, reason="volume")


def _alone(account: Account, groups: Collection[str], rule: VolumeRule) -> list[Planned]:
    if rule.allowed_groups is not None and rule.allowed_groups.isdisjoint(groups):
        return []
    return [_planned(account, rule, rule.name)]


def _of_groups(account: Account, rule: VolumeRule) -> list[Planned]:
    """One for each of her groups; her primary group is usually hers alone and has one only where it is named."""
    allowed = rule.allowed_groups
    hers = [g for g in account.groups if (g.gid != account.gid if allowed is None else g.name in allowed)]
    return [_planned(account, rule, f"{rule.name}:{group.name}", group) for group in hers]


def _planned(account: Account, rule: VolumeRule, name: str, group: AccountGroup | None = None) -> Planned:
    part = path_part(group.name if group else "")
    fields = {"username": path_part(account.name), "uid": str(account.uid), "group": part}
    path = account.home if rule.name == HOME else rule.mount_path.format_map(fields)
    place: Json = {"version": 1, "kind": "claim"}
    if rule.static:
        place = {"version": 1, "kind": rule.kind.value, "path": rule.path.format_map(fields)}
        if rule.kind is Kind.NFS:
            place["server"] = rule.server
    gid = group.gid if group else None
    return Planned(rule.name, name, place, path, place.get("path", path), rule.read_only, rule.own, gid)


# ---------------------------------------------------------------- growing

CLAIM_GROWTH = ("asked", "resizing", "done", "refused")
"""States of a claim that is to grow, as its volume's row has them under ``growth``."""


def grows(requested: str, wanted: str) -> bool:
    """Whether what the site says is more than what a claim asks for; less never shrinks it."""
    return quantity_bytes(wanted) > quantity_bytes(requested)


def growth(claim: Json) -> Json:
    """How far a claim has grown that was asked to: ``{"state", "to", "has", "why"}``."""
    asked, status = claim["spec"]["resources"]["requests"]["storage"], claim.get("status") or {}
    has = (status.get("capacity") or {}).get("storage", "0")
    told: Json = {"state": "asked", "to": asked, "has": has, "why": ""}
    if quantity_bytes(has) >= quantity_bytes(asked):
        return {**told, "state": "done"}
    resources = (status.get("allocatedResourceStatuses") or {}).get("storage", "")
    if "Infeasible" in resources:
        return {**told, "state": "refused", "why": "the storage cannot do it"}
    conditions = {c.get("type"): c for c in status.get("conditions") or () if c.get("status") == "True"}
    for kind in ("ControllerResizeError", "NodeResizeError"):
        if kind in conditions:
            return {**told, "state": "refused", "why": conditions[kind].get("message") or "the storage cannot do it"}
    if resources or not conditions.keys().isdisjoint({"Resizing", "FileSystemResizePending"}):
        return {**told, "state": "resizing"}
    return told


def growth_words(told: Json) -> str:
    """How far a volume has grown that was asked to, after its name in a sentence; empty where it has grown."""
    to, has = (format_bytes(quantity_bytes(told[key])) for key in ("to", "has"))
    match told["state"]:
        case "refused":
            return f"stays at {has}; it should have {to}, but {told['why']}"
        case "resizing":
            return f"grows from {has} to {to}"
        case "asked":
            return f"was asked to grow from {has} to {to}"
    return ""


def growth_said(path: str, told: Json) -> str:
    """A step of the start about a volume that grows; empty where it has grown."""
    words = growth_words(told)
    return f"The volume for {path} {words}." if words else ""
