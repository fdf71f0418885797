"""Debian's libsss_idmap, the library by which sssd itself maps SIDs, called as sssd's LDAP provider calls it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

from daas_hub.core.sid_map import SidSettings

NAME = "libsss_idmap.so.0"
ANY_SLICE = 2**32 - 1


class _Range(ctypes.Structure):
    _fields_ = (("min", ctypes.c_uint32), ("max", ctypes.c_uint32))


@cache
def library() -> ctypes.CDLL:
    """The library. Raises OSError where it is not installed."""
    lib = ctypes.CDLL(NAME)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    lib.sss_idmap_init.argtypes = [pointer, pointer, pointer, ctypes.POINTER(pointer)]
    lib.sss_idmap_free.argtypes = [pointer]
    for setter in ("lower", "upper", "rangesize"):
        getattr(lib, f"sss_idmap_ctx_set_{setter}").argtypes = [pointer, ctypes.c_uint32]
    lib.sss_idmap_ctx_set_autorid.argtypes = [pointer, ctypes.c_bool]
    lib.sss_idmap_ctx_set_extra_slice_init.argtypes = [pointer, ctypes.c_int]
    numbers = ctypes.POINTER(ctypes.c_uint32)
    lib.sss_idmap_calculate_range.argtypes = [pointer, text, numbers, ctypes.POINTER(_Range)]
    lib.sss_idmap_add_auto_domain_ex.argtypes = [
        pointer, text, text, ctypes.POINTER(_Range), text, ctypes.c_uint32, ctypes.c_bool, pointer, pointer,
    ]  # fmt: skip
    lib.sss_idmap_sid_to_unix.argtypes = [pointer, text, numbers]
    return lib


def available() -> bool:
    """Whether this machine has it."""
    try:
        library()
    except OSError:
        return False
    return True


class SssIdmap:
    """A machine that has seen nothing yet but its default domain; ``add`` and ``posix_id`` are what it sees then."""

    def __init__(self, settings: SidSettings) -> None:
        self._lib = library()
        self._context = ctypes.c_void_p()
        assert self._lib.sss_idmap_init(None, None, None, ctypes.byref(self._context)) == 0
        self._lib.sss_idmap_ctx_set_autorid(self._context, settings.autorid)
        self._lib.sss_idmap_ctx_set_lower(self._context, settings.range_min)
        self._lib.sss_idmap_ctx_set_upper(self._context, settings.range_max)
        self._lib.sss_idmap_ctx_set_rangesize(self._context, settings.range_size)
        self._lib.sss_idmap_ctx_set_extra_slice_init(self._context, settings.helpers)
        self._seen: set[str] = set()
        if settings.default_domain:
            self.add(settings.default_domain, 0)

    def add(self, domain: str, number: int = ANY_SLICE) -> bool:
        """Meet a domain; False where it gets no slice."""
        if domain in self._seen:
            return True
        self._seen.add(domain)
        sid, ids, chosen = domain.encode(), _Range(), ctypes.c_uint32(number)
        if self._lib.sss_idmap_calculate_range(self._context, sid, ctypes.byref(chosen), ctypes.byref(ids)):
            return False
        arguments = (sid, sid, ctypes.byref(ids), None, 0, False, None, None)
        return bool(self._lib.sss_idmap_add_auto_domain_ex(self._context, *arguments) == 0)

    def posix_id(self, sid: str) -> int | None:
        """The number of a SID; None where there is none."""
        if not self.add(sid.rpartition("-")[0]):
            return None
        number = ctypes.c_uint32()
        failed = self._lib.sss_idmap_sid_to_unix(self._context, sid.encode(), ctypes.byref(number))
        return None if failed else number.value

    def close(self) -> None:
        self._lib.sss_idmap_free(self._context)


def asked(settings: SidSettings, domains: Sequence[str], *sids: str) -> int | None:
    """What a fresh machine that met ``domains`` and then ``sids`` in this order says of the last one."""
    machine = SssIdmap(settings)
    try:
        for domain in domains:
            machine.add(domain)
        return [machine.posix_id(sid) for sid in sids][-1]
    finally:
        machine.close()
