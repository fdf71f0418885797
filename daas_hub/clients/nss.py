"""NSS: what this machine (passwd files, sssd) says about an account. A hanging sssd holds only these threads."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from daas_hub.core.account import Claim
from daas_hub.core.allocation import Kind
from daas_hub.core.errors import AccountUnresolved
from daas_hub.core.models import AccountGroup

P = ParamSpec("P")
T = TypeVar("T")

WITHIN_S = 5.0
_threads = ThreadPoolExecutor(4, thread_name_prefix="nss")
_waiting = 0
_moved_at = 0.0
"""When a question was answered last, or put where none waited."""
MAX_WAITING = 32
HANGS_AFTER_S = 1.0
"""With so many questions waiting, and none answered for so long, further ones are refused at once: the four threads
hang. While answers come, a lecture hall that starts its servers at the same moment waits its turn."""


async def ask(name: str) -> Claim:
    """The claim of NSS; without uid and gid where it does not know the name. Raises AccountUnresolved after 5 s."""
    return await _in_thread(look_up, name)


async def has_number(kind: Kind, number: int) -> bool:
    """Whether an account or a group here has this number. Raises AccountUnresolved after 5 s."""
    return await _in_thread(_has_number, kind, number)


async def name_now(name: str, uid: int) -> str:
    """The name of an account with this uid: this one where it is still its, else the one that it has here, if any.
    Raises AccountUnresolved after 5 s."""
    return await _in_thread(_name_now, name, uid)


async def _in_thread(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    global _waiting, _moved_at
    if _waiting == 0:
        _moved_at = time.monotonic()
    if _waiting >= MAX_WAITING and time.monotonic() - _moved_at > HANGS_AFTER_S:
        raise _silent()
    _waiting += 1
    call = asyncio.get_running_loop().run_in_executor(_threads, lambda: question(*args, **kwargs))
    call.add_done_callback(_answered)
    try:
        return await asyncio.wait_for(asyncio.shield(call), WITHIN_S)
    except TimeoutError as error:
        raise _silent() from error


def _answered(_call: object) -> None:
    global _waiting, _moved_at
    _waiting -= 1
    _moved_at = time.monotonic()


def _silent() -> AccountUnresolved:
    return AccountUnresolved(
        f"This machine's account service (NSS) did not answer within {WITHIN_S:g} s. Try again in a moment.",
        reason="nss_silent",
        retry_after_s=10,
    )


def look_up(name: str) -> Claim:
    """The same, blocking."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return Claim(source="nss", name=name, uid=None, gid=None)
    groups = []
    for gid in os.getgrouplist(name, entry.pw_gid):
        try:
            groups.append(AccountGroup(grp.getgrgid(gid).gr_name, gid))
        except KeyError:
            # A gid without a name still gives access to files.
            groups.append(AccountGroup(str(gid), gid))
    return Claim(
        source="nss",
        name=name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        groups=tuple(groups),
        home=entry.pw_dir or None,
        shell=entry.pw_shell or None,
        display_name=entry.pw_gecos.split(",")[0],
    )


def _name_now(name: str, uid: int) -> str:
    try:
        if pwd.getpwnam(name).pw_uid == uid:
            return name
    except KeyError:
        pass
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return name


def _has_number(kind: Kind, number: int) -> bool:
    try:
        if kind is Kind.UID:
            pwd.getpwuid(number)
        else:
            grp.getgrgid(number)
    except KeyError:
        return False
    return True
