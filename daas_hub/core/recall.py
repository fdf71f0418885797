"""What a server and a volume say of themselves where the ledger is lost: one JSON note, written and read here. Pure.

No secret and no text that a person typed is in it: numbers and names of the account, its identity's key, and what the
launch counts for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .models import Account, AccountGroup, Charge, Handle, Json, LaunchSpec, Memo, Mount

VERSION = 1


@dataclass(frozen=True)
class Note:
    """A note that was read: a server's has a ``charge``, a volume's has ``name`` and ``place``."""

    account: Account
    user_name: str
    memo: Memo
    charge: Charge | None = None
    name: str = ""
    place: Json = field(default_factory=dict)
    group_gid: int | None = None
    """Of a volume of a group."""


@dataclass(frozen=True)
class SeenLaunch:
    """A server that was found with nothing but what it says itself. ``trouble``: why that cannot be believed."""

    where: str
    """For the operator: what it is called there."""
    launch_id: str
    account_id: str
    server_name: str
    handle: Handle
    started_at: datetime
    note: Note | None
    trouble: str = ""


@dataclass(frozen=True)
class SeenVolume:
    """A volume that was found. ``made`` is what the backend would have told the ledger of it."""

    where: str
    volume_id: str
    account_id: str
    made: Json
    created_at: datetime
    note: Note | None
    trouble: str = ""


@dataclass(frozen=True)
class Seen:
    """All that one backend has."""

    backend: str
    launches: tuple[SeenLaunch, ...] = ()
    volumes: tuple[SeenVolume, ...] = ()


@dataclass(frozen=True)
class OwnedVolume:
    """A volume that the ledger knows: what was made of it, and whose it is."""

    volume_id: str
    name: str
    place: Json
    made: Json
    account: Account
    user_name: str
    identity: tuple[str, str] | None
    let_go: bool = False
    """It has expired: nobody wants it back."""
    group_gid: int | None = None
    """Of the project whose volume it is."""


def launch_note(spec: LaunchSpec) -> str:
    """The note of a server."""
    memo, charge = spec.memo, spec.resources.charge()
    counted = {"cores": charge.cores, "memory_bytes": charge.memory_bytes, "gpus": charge.gpus}
    launch = {
        "profile": memo.profile,
        "profile_display_name": memo.profile_display_name,
        "groups": list(memo.groups),
        "project": memo.project,
    }
    return _text({**_whose(spec.account, spec.user_name, memo.identity), "launch": {**launch, **counted}})


def volume_note(mount: Mount, spec: LaunchSpec) -> str:
    """The note of an account's volume."""
    whose = _whose(spec.account, spec.user_name, spec.memo.identity)
    return _text({**whose, "volume": _volume(mount.name, mount.place, mount.group_gid)})


def owned_note(volume: OwnedVolume) -> str:
    """The same, from what the ledger has."""
    whose = _whose(volume.account, volume.user_name, volume.identity)
    return _text({**whose, "volume": _volume(volume.name, volume.place, volume.group_gid)})


def _volume(name: str, place: Mapping[str, Any], group_gid: int | None) -> Json:
    return {"name": name, "place": dict(place), **({"gid": group_gid} if group_gid is not None else {})}


def _whose(account: Account, user_name: str, identity: tuple[str, str] | None) -> Json:
    return {
        "version": VERSION,
        "user": user_name,
        "account": {
            **{key: getattr(account, key) for key in ("id", "name", "uid", "gid", "home", "shell", "source")},
            "groups": [[group.name, group.gid] for group in account.groups],
        },
        "identity": list(identity) if identity else None,
    }


def _text(note: Json) -> str:
    return json.dumps(note, separators=(",", ":"), sort_keys=True)


def read_note(text: str | None, seen_at: datetime) -> Note:
    """A note back. Raises ValueError with a sentence where there is none, or none that this version reads."""
    if not text:
        raise ValueError("it has no note of whose it is (it was made by an earlier version)")
    try:
        note: Any = json.loads(text)
        if note["version"] != VERSION:
            raise ValueError(f"its note has version {note['version']!r}; this program reads {VERSION}")
        return _note(note, seen_at)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"its note cannot be read ({type(error).__name__}: {error})") from error


def _note(note: Json, seen_at: datetime) -> Note:
    facts, launch, identity = note["account"], note.get("launch"), note["identity"]
    account = Account(
        **{key: str(facts[key]) for key in ("id", "name", "home", "shell", "source")},
        uid=int(facts["uid"]),
        gid=int(facts["gid"]),
        groups=tuple(AccountGroup(str(name), int(gid)) for name, gid in facts["groups"]),
        fetched_at=seen_at,
    )
    key = (str(identity[0]), str(identity[1])) if identity else None
    if launch is None:
        volume = note["volume"]
        name, place, gid = str(volume["name"]), dict(volume["place"]), volume.get("gid")
        group_gid = int(gid) if gid is not None else None
        return Note(account, str(note["user"]), Memo(identity=key), name=name, place=place, group_gid=group_gid)
    memo = Memo(
        identity=key,
        profile=str(launch["profile"]),
        profile_display_name=str(launch["profile_display_name"]),
        groups=tuple(str(group) for group in launch["groups"]),
        project=launch["project"],
    )
    cores, memory = launch["cores"], launch["memory_bytes"]
    charge = Charge(
        cores=None if cores is None else float(cores),
        memory_bytes=None if memory is None else int(memory),
        gpus=int(launch["gpus"]),
    )
    return Note(account, str(note["user"]), memo, charge)
