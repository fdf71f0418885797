"""passwd and group files in which an account has its lines, for processes whose user NSS does not know."""

from __future__ import annotations

import grp
import pwd
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from daas_hub.core.models import Account

MAX_GECOS = 256


def clean(text: str) -> str:
    """Text that cannot end a field or a line: no colon, no control or separator character."""
    kept = (" " if unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp", "Cs"} or c == ":" else c for c in text)
    return "".join(kept).strip()


def unfit(account: Account) -> str:
    """Why these facts cannot stand in a passwd line, or nothing. Never mended silently: they decide where files go."""
    facts = {"name": account.name, "home": account.home, "shell": account.shell}
    for what, text in facts.items():
        if not text or clean(text) != text:
            return f"the {what} {text!r} is empty or holds a colon or a control character"
    if not account.home.startswith("/") or "/../" in f"{account.home}/":
        return f"the home {account.home!r} is not an absolute path"
    return ""


def known(account: Account) -> bool:
    """Whether NSS says the same about the account as we do. Blocks for as long as NSS does: call it in a thread."""
    try:
        by_uid, by_name = pwd.getpwuid(account.uid), pwd.getpwnam(account.name)
    except KeyError:
        return False
    if by_uid.pw_name != account.name or by_name.pw_uid != account.uid or by_uid.pw_dir != account.home:
        return False
    return all(_group_known(group.gid) for group in account.groups)


def _group_known(gid: int) -> bool:
    try:
        grp.getgrgid(gid)
    except KeyError:
        return False
    return True


def with_lines(account: Account, passwd: str, group: str) -> tuple[str, str]:
    """Copies of both files with the account's lines; lines that contradict them are left out. Pure."""
    gecos = clean(account.display_name).replace(",", " ")[:MAX_GECOS]
    own = f"{account.name}:x:{account.uid}:{account.gid}:{gecos}:{account.home}:{account.shell}"
    kept = _others(passwd, names={account.name}, number=2, ids={account.uid})
    groups = {entry.gid: clean(entry.name).replace(",", " ") or f"gid{entry.gid}" for entry in account.groups}
    groups.setdefault(account.gid, account.name)
    kept_groups = _others(group, names=set(groups.values()), number=2, ids=set(groups))
    lines = [f"{name}:x:{gid}:{account.name}" for gid, name in sorted(groups.items())]
    return _text([*kept, own]), _text([*kept_groups, *lines])


def of_this_machine(account: Account) -> tuple[str, str]:
    """``with_lines`` for this machine's own files. Blocks."""
    passwd, group = (Path(name).read_text(errors="replace") for name in ("/etc/passwd", "/etc/group"))
    return with_lines(account, passwd, group)


def _others(text: str, *, names: set[str], number: int, ids: set[int]) -> Iterable[str]:
    """Lines whose name and id are not among those given."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > number and fields[0] not in names and fields[number] not in {str(n) for n in ids}:
            yield line


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
