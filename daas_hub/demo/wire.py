"""Reading LDAP requests: ldap3's protocol types, with filters decoded one level at a time.

ldap3 only ever writes filters: its And, Or and Not get their component type after Filter has been made from them, so
pyasn1 cannot decode them with that schema. Here a filter stays encoded until its own tag says what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ldap3.protocol import rfc4511 as ldap
from pyasn1.codec.ber import decoder
from pyasn1.error import PyAsn1Error
from pyasn1.type import namedtype, tag, univ

MAX_FILTER_DEPTH = 32

_CONTEXT, _CONSTRUCTED = tag.tagClassContext, tag.tagFormatConstructed


def _with(types: Any, name: str, spec: Any) -> Any:
    """A component list with one component of another type."""
    return namedtype.NamedTypes(
        *(type(t)(t.name, spec if t.name == name else t.asn1Object) for t in types.namedTypes),
    )


class _SearchRequest(ldap.SearchRequest):
    componentType = _with(ldap.SearchRequest.componentType, "filter", univ.Any())


class _ProtocolOp(ldap.ProtocolOp):
    componentType = _with(ldap.ProtocolOp.componentType, "searchRequest", _SearchRequest())


class _Message(ldap.LDAPMessage):
    componentType = _with(ldap.LDAPMessage.componentType, "protocolOp", _ProtocolOp())


_LEAVES: dict[int, tuple[str, Any]] = {
    3: ("equalityMatch", ldap.EqualityMatch()),
    4: ("substringFilter", ldap.SubstringFilter()),
    5: ("greaterOrEqual", ldap.GreaterOrEqual()),
    6: ("lessOrEqual", ldap.LessOrEqual()),
    7: ("present", ldap.Present()),
    8: ("approxMatch", ldap.ApproxMatch()),
    9: ("extensibleMatch", ldap.ExtensibleMatch()),
}
_SETS = {
    number: univ.SetOf(componentType=univ.Any()).subtype(implicitTag=tag.Tag(_CONTEXT, _CONSTRUCTED, number))
    for number in (0, 1)
}
_NOT = univ.Any().subtype(explicitTag=tag.Tag(_CONTEXT, _CONSTRUCTED, 2))


@dataclass(frozen=True)
class Filter:
    """One filter: ``and``, ``or`` and ``not`` have ``parts``, every other kind has a ``leaf`` of ldap3's types."""

    kind: str
    parts: tuple[Filter, ...] = ()
    leaf: Any = None


def decode(raw: bytes) -> Any:
    """One LDAPMessage. Raises ValueError for anything else."""
    try:
        whole, rest = decoder.decode(raw, asn1Spec=_Message())
    except (PyAsn1Error, RecursionError) as error:
        raise ValueError("not an LDAPMessage") from error
    if rest:
        raise ValueError("more than one LDAPMessage")
    return whole


def decode_filter(raw: bytes, depth: int = 0) -> Filter:
    """A filter of a search request. Raises ValueError where it is none, or nested deeper than anybody needs."""
    number = raw[0] & 0x1F if raw else -1
    if depth > MAX_FILTER_DEPTH or raw[:1] < b"\x80" or not 0 <= number <= 9:
        raise ValueError("not a filter, or nested too deeply")
    try:
        if number in _LEAVES:
            kind, spec = _LEAVES[number]
            return Filter(kind, leaf=decoder.decode(raw, asn1Spec=spec)[0])
        if number == 2:
            inner = bytes(decoder.decode(raw, asn1Spec=_NOT)[0])
            return Filter("not", (decode_filter(inner, depth + 1),))
        inner_filters = decoder.decode(raw, asn1Spec=_SETS[number])[0]
    except PyAsn1Error as error:
        raise ValueError("not a filter") from error
    return Filter("or" if number else "and", tuple(decode_filter(bytes(f), depth + 1) for f in inner_filters))
