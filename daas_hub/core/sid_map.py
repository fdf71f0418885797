"""Active Directory's SIDs as uids and gids: the numbers that sssd gives with ``ldap_id_mapping``. Pure.

sssd cuts the range of ids into slices. A domain takes the slice that its SID hashes to, or the next free one; the last
number of a SID (RID) counts within it. RIDs beyond one slice go on in further slices that are found in the same way.

Where two of them want the same slice, sssd's number depends on what a machine happened to see first. Here each number
follows from the settings alone: the one that comes first in their order has the slice, the other one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from .errors import AccountRefused, ConfigError

_SEED = 0xDEADBEEF
_MASK = 2**32 - 1
_DOMAIN = r"S-1-5-21(?:-(?:0|[1-9][0-9]{0,9})){3}"
_DOMAIN_SID = re.compile(_DOMAIN, re.ASCII)
_SID = re.compile(rf"({_DOMAIN})-(0|[1-9][0-9]{{0,9}})", re.ASCII)
MAX_ID = 2**31 - 1
"""The largest number that sssd takes for ``ldap_idmap_range_max``."""


@dataclass(frozen=True)
class SidSettings:
    """sssd's settings of the same meaning; the defaults are sssd's own."""

    range_min: int = 200_000
    range_max: int = 2_000_200_000
    range_size: int = 200_000
    autorid: bool = False
    """Slices in the order of the domains, not by their hash (``ldap_idmap_autorid_compat``)."""
    default_domain: str = ""
    """SID of the domain that has the first slice (``ldap_idmap_default_domain_sid``)."""
    domains: tuple[str, ...] = ()
    """Further domains in the order in which they take their slices."""
    helpers: int = 10
    """Further slices a domain is sure to have (``ldap_idmap_helper_table_size``); 0: one slice and no more."""


def check(settings: SidSettings) -> None:
    """Raise ConfigError for settings that sssd would not take either, or by which no domain has a slice."""
    low, high, size = settings.range_min, settings.range_max, settings.range_size
    if not (0 < low < high <= MAX_ID and 0 < size <= high - low):
        raise ConfigError(
            f"sid_range_min {low}, sid_range_max {high} and sid_range_size {size} cannot work: they must be above "
            f"0, the largest at most {MAX_ID}, and at least one range of that size must fit between the first two."
        )
    if settings.helpers < 0:
        raise ConfigError(f"sid_helper_slices is {settings.helpers}; allowed are 0 and more.")
    for domain in (settings.default_domain, *settings.domains):
        if domain and not is_domain(domain):
            raise ConfigError(f"{domain!r} is not the SID of a domain; one looks like S-1-5-21-1-2-3.")
    _slices(settings, _listed(settings))


def posix_id(settings: SidSettings, sid: str) -> int:
    """The uid or gid of ``sid``. Raises AccountRefused where sssd gives none, or not the same one everywhere."""
    domain, rid = split(sid)
    listed = _listed(settings)
    if domain in listed:
        return _slices(settings, listed).posix_id(domain, rid)
    try:
        slices = _slices(settings, (*listed, domain))
    except ConfigError as error:
        raise _refused(domain, "no slice of the range is left for it", "raise sid_range_max") from error
    if settings.autorid or not slices.undisturbed(domain):
        raise _refused(domain, "its slice depends on the order of the domains", "list it in sid_domains")
    return slices.posix_id(domain, rid)


def split(sid: str) -> tuple[str, int]:
    """The domain and the RID of an account's or a group's SID. Raises AccountRefused for what is none of a domain."""
    found = _SID.fullmatch(sid)
    if found is None or not is_domain(found[1]) or int(found[2]) > _MASK:
        raise AccountRefused(
            f"{sid[:100]!r} is not the SID of an account or a group of a domain; one looks like S-1-5-21-1-2-3-1104.",
            reason="sid",
        )
    return found[1], int(found[2])


def of_domain(sid: str) -> bool:
    """Whether this may be an account or a group of a domain; the others are built in or not lasting."""
    return sid.startswith("S-1-5-21-")


def is_domain(sid: str) -> bool:
    """Whether this is the SID of a domain: three numbers of 32 bits after S-1-5-21."""
    return _DOMAIN_SID.fullmatch(sid) is not None and all(int(part) <= _MASK for part in sid.split("-")[4:])


# ---------------------------------------------------------------- slices


class _Slices:
    """Which slice each of some domains has; the order of ``domains`` is the order in which sssd meets them."""

    def __init__(self, settings: SidSettings, domains: tuple[str, ...]) -> None:
        self._settings = settings
        self._count = (settings.range_max - settings.range_min) // settings.range_size
        self._primary: dict[str, int] = {}
        self._further: dict[tuple[str, int], int | None] = {}
        for domain in domains:
            self._add(domain)

    def _add(self, domain: str) -> None:
        first = domain == self._settings.default_domain
        number = 0 if first else self._free(domain, self._primary.values())
        if number is None:
            raise ConfigError(
                f"sid_domains: no slice is left for {domain}. {self._count} slices of {self._settings.range_size} ids "
                "fit between sid_range_min and sid_range_max."
            )
        self._primary[domain] = number
        # sssd fills its table of further slices when it meets the domain: later domains do not move them.
        for part in range(1, self._settings.helpers + 1):
            self._further[domain, part] = self._free(self._name(domain, part), self._primary.values())

    def undisturbed(self, domain: str) -> bool:
        """Whether a domain has the slice that it has where only the default domain was there before."""
        default = [0] if self._settings.default_domain else []
        return self._primary[domain] == self._free(domain, default)

    def posix_id(self, domain: str, rid: int) -> int:
        """The number of a RID of one of the domains. Raises AccountRefused."""
        part, offset = divmod(rid, self._settings.range_size)
        number = self._primary[domain] if part == 0 else self._own(domain, part)
        return self._settings.range_min + number * self._settings.range_size + offset

    def _own(self, domain: str, part: int) -> int:
        """A further slice that no other domain has, and no part of any domain that comes before this one."""
        since = f"its RIDs from {part * self._settings.range_size} on"
        # With as many before it there is none left on a machine that saw them all; nor need they be tried here.
        number = self._slice(domain, part) if part <= self._count + self._settings.helpers else None
        if number is None:
            raise _refused(domain, f"{since} have no slice", "raise sid_range_size")
        if number in self._primary.values():
            raise _refused(domain, f"{since} fall where another domain is", "raise sid_range_size")
        for earlier in range(1, part + 1):
            for other in self._primary:
                if (earlier, other) == (part, domain):
                    break
                if self._slice(other, earlier) == number:
                    where = f"those of {other} from {earlier * self._settings.range_size} on are"
                    raise _refused(domain, f"{since} fall where {where}", "raise sid_range_size")
        return number

    def _slice(self, domain: str, part: int) -> int | None:
        """Where sssd puts a further slice of a domain, if it is the first thing that it puts there."""
        if self._settings.helpers == 0:
            return None
        if (domain, part) not in self._further:
            self._further[domain, part] = self._free(self._name(domain, part), self._primary.values())
        return self._further[domain, part]

    def _name(self, domain: str, part: int) -> str:
        return f"{domain}-{part * self._settings.range_size}"

    def _free(self, name: str, taken: Collection[int]) -> int | None:
        """The slice that a name hashes to, or the next one that is free; None: all are taken."""
        first = 0 if self._settings.autorid else murmur3(name.encode(), _SEED) % self._count
        numbers = ((first + step) % self._count for step in range(self._count))
        return next((number for number in numbers if number not in taken), None)


@lru_cache(maxsize=64)
def _slices(settings: SidSettings, domains: tuple[str, ...]) -> _Slices:
    return _Slices(settings, domains)


def _listed(settings: SidSettings) -> tuple[str, ...]:
    """The domains of the settings, each once, the default one first."""
    return tuple(dict.fromkeys(domain for domain in (settings.default_domain, *settings.domains) if domain))


def _refused(domain: str, why: str, what_helps: str) -> AccountRefused:
    return AccountRefused(
        f"No uid or gid can be given to this account of {domain}: {why}, and sssd could give another one. "
        f"Whoever administers this hub can {what_helps}, as in sssd.",
        reason="sid",
    )


# ---------------------------------------------------------------- the hash


def murmur3(data: bytes, seed: int) -> int:
    """MurmurHash3 of 32 bits (Austin Appleby, public domain)."""
    value = seed
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        value ^= _scrambled(int.from_bytes(data[at : at + 4], "little"))
        value = (_rotated(value, 13) * 5 + 0xE6546B64) & _MASK
    if whole != len(data):
        value ^= _scrambled(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    value = ((value ^ (value >> 16)) * 0x85EBCA6B) & _MASK
    value = ((value ^ (value >> 13)) * 0xC2B2AE35) & _MASK
    return value ^ (value >> 16)


def _scrambled(block: int) -> int:
    return (_rotated((block * 0xCC9E2D51) & _MASK, 15) * 0x1B873593) & _MASK


def _rotated(value: int, by: int) -> int:
    return ((value << by) | (value >> (32 - by))) & _MASK
