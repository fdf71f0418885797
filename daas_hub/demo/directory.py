"""A small real LDAP listener on the loopback interface: bind, search, unbind. The demo's directory.

It speaks LDAPv3 (RFC 4511) with ldap3's own protocol types and pyasn1's BER codec, so the sign-in of the demo is
the sign-in of production. It is no directory for production: it keeps passwords in memory and has no TLS.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterator
from typing import Any

from ldap3.protocol import rfc4511 as ldap
from ldap3.protocol.rfc2696 import Cookie, RealSearchControlValue, Size
from pyasn1.codec.ber import decoder, encoder
from pyasn1.error import PyAsn1Error

from .tree import BadDn, Entry, Scope, Tree
from .wire import decode, decode_filter

log = logging.getLogger("daas_hub.demo.directory")

MAX_MESSAGE_BYTES = 1 << 20
PAGED_RESULTS = "1.2.840.113556.1.4.319"
PASSWORD_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105
NOTICE_OF_DISCONNECTION = "1.3.6.1.4.1.1466.20036"
ACCOUNT_LOCKED = bytes.fromhex("3003810101")
"""PasswordPolicyResponseValue with error accountLocked (draft-behera-ldap-password-policy §6.2)."""

SUCCESS, PROTOCOL_ERROR, SIZE_LIMIT, AUTH_METHOD, UNAVAILABLE_EXTENSION = 0, 2, 4, 7, 12
NO_SUCH_OBJECT, INVALID_DN, INVALID_CREDENTIALS, NO_ACCESS, UNWILLING = 32, 34, 49, 50, 53

RESPONSE_OF: dict[str, tuple[str, Any]] = {
    "modifyRequest": ("modifyResponse", ldap.ModifyResponse),
    "addRequest": ("addResponse", ldap.AddResponse),
    "delRequest": ("delResponse", ldap.DelResponse),
    "modDNRequest": ("modDNResponse", ldap.ModifyDNResponse),
    "compareRequest": ("compareResponse", ldap.CompareResponse),
    "extendedReq": ("extendedResp", ldap.ExtendedResponse),
}
"""Requests that are understood and refused."""


def result(kind: Any, code: int, text: str = "") -> Any:
    """A response with a result code (RFC 4511 §4.1.9)."""
    answer = kind()
    answer["resultCode"] = code
    answer["matchedDN"] = ""
    answer["diagnosticMessage"] = text
    return answer


def message(message_id: int, name: str, operation: Any, controls: dict[str, bytes] | None = None) -> bytes:
    """One LDAPMessage, encoded."""
    whole = ldap.LDAPMessage()
    whole["messageID"] = message_id
    whole["protocolOp"].setComponentByName(name, operation)
    for oid, value in (controls or {}).items():
        control = ldap.Control()
        control["controlType"] = oid
        control["controlValue"] = value
        whole["controls"].append(control)
    return bytes(encoder.encode(whole))


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """The next BER element, or None at the end. Raises ValueError where it is no LDAPMessage or too long."""
    head = await reader.read(1)
    if not head:
        return None
    if head != b"\x30":
        raise ValueError("an LDAPMessage begins with a SEQUENCE")
    first = await reader.readexactly(1)
    length, extra = first[0], b""
    if length & 0x80:
        extra = await reader.readexactly(length & 0x7F) if 0 < length & 0x7F <= 4 else b""
        length = int.from_bytes(extra, "big") if extra else MAX_MESSAGE_BYTES + 1
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message is at most {MAX_MESSAGE_BYTES} bytes long")
    return head + first + extra + await reader.readexactly(length)


class Connection:
    """One client: requests in, responses out, one after another."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._bound: Entry | None = None

    def answer(self, raw: bytes) -> Iterator[bytes] | None:
        """The responses to one message; None where the client says goodbye. Raises ValueError for what is not LDAP."""
        whole = decode(raw)
        number, name = int(whole["messageID"]), whole["protocolOp"].getName()
        operation = whole["protocolOp"].getComponent()
        controls = {str(c["controlType"]): c for c in whole["controls"]} if whole["controls"].isValue else {}
        match name:
            case "bindRequest":
                return iter([self._bind(number, operation, controls)])
            case "searchRequest":
                return self._search(number, operation, controls)
            case "unbindRequest":
                return None
            case "abandonRequest":
                return iter(())
        if name not in RESPONSE_OF:
            raise ValueError(f"{name} is not a request")
        response, kind = RESPONSE_OF[name]
        code = PROTOCOL_ERROR if name == "extendedReq" else UNWILLING
        return iter([message(number, response, result(kind, code, "this directory answers bind, search and unbind"))])

    # ------------------------------------------------------------ bind

    def _bind(self, number: int, request: Any, controls: dict[str, Any]) -> bytes:
        self._bound = None
        code, text, entry = self._check(request)
        if code == SUCCESS:
            self._bound = entry
        locked = code == INVALID_CREDENTIALS and entry is not None and entry.locked
        policy = {PASSWORD_POLICY: ACCOUNT_LOCKED} if locked and PASSWORD_POLICY in controls else None
        return message(number, "bindResponse", result(ldap.BindResponse, code, text), policy)

    def _check(self, request: Any) -> tuple[int, str, Entry | None]:
        """Result code, text and the entry that was named. Never says whether the name or the password was wrong."""
        if int(request["version"]) != 3:
            return PROTOCOL_ERROR, "this directory speaks LDAPv3", None
        if request["authentication"].getName() != "simple":
            return AUTH_METHOD, "this directory knows simple binds", None
        name, password = str(request["name"]), bytes(request["authentication"]["simple"])
        if not password:
            # RFC 4513 §5.1.2: a name without a password must not look like a successful sign-in.
            return (UNWILLING, "a password is needed", None) if name else (SUCCESS, "", None)
        try:
            entry = self._tree.get(name)
        except BadDn:
            return INVALID_DN, "not a distinguished name", None
        stored = entry.password if entry else None
        right = hmac.compare_digest((stored or "").encode(), password) and stored is not None
        if right and entry and not entry.locked:
            return SUCCESS, "", entry
        return INVALID_CREDENTIALS, "", entry

    # ------------------------------------------------------------ search

    def _search(self, number: int, request: Any, controls: dict[str, Any]) -> Iterator[bytes]:
        try:
            found = self._found(request)
        except BadDn:
            yield message(number, "searchResDone", result(ldap.SearchResultDone, INVALID_DN, "not a DN"))
            return
        unknown = [oid for oid, c in controls.items() if bool(c["criticality"]) and oid != PAGED_RESULTS]
        code, text, entries = found
        if unknown:
            code, text, entries = UNAVAILABLE_EXTENSION, f"unknown critical control {unknown[0]}", []
        more: dict[str, bytes] = {}
        if PAGED_RESULTS in controls and code == SUCCESS:
            entries, more = _page(entries, bytes(controls[PAGED_RESULTS]["controlValue"]))
        limit = int(request["sizeLimit"])
        if limit and len(entries) > limit:
            entries, code = entries[:limit], SIZE_LIMIT
        selectors = [str(s) for s in request["attributes"]]
        for entry in entries:
            yield message(number, "searchResEntry", _result_entry(entry, selectors, bool(request["typesOnly"])))
        yield message(number, "searchResDone", result(ldap.SearchResultDone, code, text), more)

    def _found(self, request: Any) -> tuple[int, str, list[Entry]]:
        base, scope = str(request["baseObject"]), Scope(int(request["scope"]))
        match = self._tree.matcher(decode_filter(bytes(request["filter"])))
        if not base and scope is Scope.BASE:
            return SUCCESS, "", [root_dse(self._tree.base)]
        if self._bound is None:
            return NO_ACCESS, "bind first", []
        if self._tree.get(base) is None:
            return NO_SUCH_OBJECT, "", []
        return SUCCESS, "", list(self._tree.search(base, scope, match))


def root_dse(base: str) -> Entry:
    """What a client may ask before it binds (RFC 4512 §5.1)."""
    attributes = {
        "objectClass": ("top",),
        "namingContexts": (base,),
        "supportedLDAPVersion": ("3",),
        "supportedControl": (PAGED_RESULTS, PASSWORD_POLICY),
        "vendorName": ("daas_hub demo",),
    }
    return Entry("", attributes)


def _result_entry(entry: Entry, selectors: list[str], types_only: bool) -> Any:
    answer = ldap.SearchResultEntry()
    answer["object"] = entry.dn
    answer["attributes"].clear()
    for name, values in entry.wanted(selectors):
        attribute = ldap.PartialAttribute()
        attribute["type"] = name
        attribute["vals"].clear()
        attribute["vals"].extend([] if types_only else [ldap.AttributeValue(v.encode()) for v in values])
        answer["attributes"].append(attribute)
    return answer


def _page(entries: list[Entry], value: bytes) -> tuple[list[Entry], dict[str, bytes]]:
    """One page and the control that names the next one (RFC 2696); the cookie is the offset."""
    asked, _ = decoder.decode(value, asn1Spec=RealSearchControlValue())
    size, cookie = int(asked["size"]), bytes(asked["cookie"])
    begin = int(cookie) if cookie.isdigit() else 0
    end = begin + size
    answer = RealSearchControlValue()
    answer["size"] = Size(len(entries))
    answer["cookie"] = Cookie(str(end).encode() if size and end < len(entries) else b"")
    return entries[begin:end], {PAGED_RESULTS: bytes(encoder.encode(answer))}


class DirectoryListener:
    """The listener: ``await start()``, then ``url``; ``await stop()`` ends every connection."""

    def __init__(self, tree: Tree, *, port: int = 0) -> None:
        self._tree = tree
        self.port = port
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ldap://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on 127.0.0.1, on a free port where none was given. Raises OSError where that port is taken."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._clients):
            writer.close()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        connection = Connection(self._tree)
        try:
            while (raw := await read_message(reader)) is not None:
                answers = connection.answer(raw)
                if answers is None:
                    break
                for answer in answers:
                    writer.write(answer)
                await writer.drain()
        except (ValueError, PyAsn1Error) as error:
            # RFC 4511 §4.1.1: what cannot be parsed ends the connection, with a notice.
            log.warning("A client of the demo's directory does not speak LDAP: %s", error)
            notice = result(ldap.ExtendedResponse, PROTOCOL_ERROR, "not LDAP")
            notice["responseName"] = NOTICE_OF_DISCONNECTION
            writer.write(message(0, "extendedResp", notice))
        except (OSError, asyncio.IncompleteReadError) as error:
            log.debug("A client of the demo's directory is gone: %r", error)
        finally:
            self._clients.discard(writer)
            writer.close()
