"""One conversation with an LDAP server: connect, TLS, bind, search, unbind. Blocking; runs in a thread.

Every unsafe default of ldap3 2.9.1 is reversed here, once: certificates are verified, referrals are not followed,
connections have time-outs, the schema is not downloaded (it costs 160 KiB a login), and every connection is closed.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import ldap3
from ldap3.core.results import RESULT_INVALID_CREDENTIALS, RESULT_SUCCESS

from daas_hub.core.directory_ad import sid_text
from daas_hub.core.errors import DaasError, DirectoryUnavailable

PAGES = (1000, 100, 10)
"""Entries asked for in one page of a search; fewer where the server allows no such page (OpenLDAP's ``size.pr``)."""
ADMIN_LIMIT = 11
REFERRAL = 10
NO_SUCH_OBJECT = 32
UNANSWERED = "directory_unanswered"
BIND_REFUSED = frozenset({RESULT_INVALID_CREDENTIALS, NO_SUCH_OBJECT, 19, 48, 50, 53})
"""Results of a bind that say no: invalid credentials, no such object, constraint violation (ppolicy),
inappropriate authentication, insufficient access, unwilling to perform (RFC 4511 §4.1.9)."""


@dataclass(frozen=True)
class Address:
    """Where the directory listens, and how it is protected."""

    uri: str
    """``ldaps://host:port`` or ``ldap://host:port``."""
    allow_plaintext: bool = False
    ca_file: str | None = None
    connect_within_s: float = 3.0
    answer_within_s: float = 6.0
    referral_hosts: frozenset[str] = frozenset()
    """``host:port`` of other servers that hold parts of the directory and may get the service's and people's passwords
    when this one refers to them. Empty: no referral is followed."""

    def of(self, uri: str, within_s: float) -> Address:
        """The same protection for another server, where only ``within_s`` are left."""
        connect_s, answer_s = min(self.connect_within_s, within_s), min(self.answer_within_s, within_s)
        return replace(self, uri=uri, connect_within_s=connect_s, answer_within_s=answer_s)

    @property
    def host(self) -> str:
        """The host of the URI; the certificate must be for it."""
        return urlsplit(self.uri).hostname or ""


Entry = dict[str, list[str]]
"""Lower-case attribute → values, and ``dn``; and ``SERVER`` where another server has it."""
SERVER = "@server"
"""No attribute is called so (RFC 4512 §1.4): the address that an entry came from by a referral."""
Register = Callable[[Any], None]
"""Gets each connection, so that another thread can cut it."""


class Session:
    """A conversation, open inside ``session(…)``."""

    def __init__(self, connection: ldap3.Connection, address: Address, register: Register) -> None:
        self._connection = connection
        self.address = address
        self._register = register
        self._bound_as = ("", "")
        self._pages = list(PAGES)
        self.refused_with = ""
        """The server's words for the bind that it refused last."""

    @property
    def certificate_until(self) -> datetime | None:
        """When the server's certificate ends; None without TLS."""
        get = getattr(self._connection.socket, "getpeercert", None)
        until = (get() or {}).get("notAfter") if get is not None else None
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC) if until else None

    def lend(self, register: Register) -> None:
        """For another question from now on: ``register`` gets the connection, as in ``session``."""
        self._register = register
        register(self._connection)

    @property
    def quiet(self) -> bool:
        """Whether the server has sent nothing since its last answer: neither its end nor a notice that it ends."""
        sock = self._connection.socket
        try:
            return not (sock is None or select.select([sock], [], [], 0)[0])
        except (OSError, ValueError):
            return False

    def bind(self, dn: str, password: str, *, once: bool = False) -> bool:
        """Whether the server accepts the password. An empty one is never sent: it would mean "anonymous".

        ``once``: no answer is told as UNANSWERED, so that the password is not sent to another server: this one may
        have judged it, and a wrong one would count twice.
        """
        if not password or not dn:
            return False
        c = self._connection
        # As bytes it is sent as typed; as text ldap3 would refuse some characters and replace others (SASLprep).
        c.user, c.password, c.authentication = dn, password.encode(), ldap3.SIMPLE
        try:
            c.bind(read_server_info=False)
        except Exception as error:
            detail = f"the bind was not answered: {type(error).__name__}: {error}"
            raise unavailable(self.address, detail, reason=UNANSWERED if once else None) from error
        code: int = c.result["result"]
        if code == RESULT_SUCCESS:
            self._bound_as = (dn, password)
            return True
        if code in BIND_REFUSED:
            self.refused_with = str(c.result.get("message") or "")
            return False
        raise unavailable(self.address, f"bind answered {c.result['description']}")

    def search(self, base: str, query: str, attributes: Sequence[str], *, subtree: bool = True) -> list[Entry]:
        """All entries below ``base`` (or the one that it names), page by page; where the server refers to another
        one, also those there, if that one is allowed; else they are left out.

        An answer that the server cut short (size or time limit) is no answer: groups would be missing silently.
        """
        entries: list[Entry] = []
        elsewhere: list[str] = []
        cookie: bytes | None = None
        while True:
            self._connection.search(
                base,
                query,
                ldap3.SUBTREE if subtree else ldap3.BASE,
                dereference_aliases=ldap3.DEREF_NEVER,
                attributes=list(attributes),
                paged_size=self._pages[0],
                paged_cookie=cookie,
            )
            result = self._connection.result
            if result["result"] == NO_SUCH_OBJECT:
                return entries
            if result["result"] == REFERRAL and (there := self._allowed(result.get("referrals") or ())):
                return self._follow([there], query, attributes, subtree)
            if result["result"] == ADMIN_LIMIT and not entries and len(self._pages) > 1:
                self._pages.pop(0)
                continue
            if result["result"] != RESULT_SUCCESS:
                raise unavailable(self.address, f"search below {base} answered {result['description']}")
            for found in self._connection.response:
                if found["type"] == "searchResEntry":
                    entries.append(_entry(found))
                elif there := self._allowed(found.get("uri") or ()):
                    elsewhere.append(there)
            control = (result.get("controls") or {}).get("1.2.840.113556.1.4.319")
            cookie = control["value"]["cookie"] if control else None
            if not cookie:
                whole = [self._complete(entry) for entry in entries]
                return whole + self._follow(elsewhere, query, attributes, subtree)

    def _allowed(self, uris: Sequence[str]) -> str:
        """The first of equal places (RFC 4511 §4.1.10) that may be asked; empty: none."""
        return next((uri for uri in uris if _host_and_port(uri) in self.address.referral_hosts), "")

    def _follow(self, uris: Sequence[str], query: str, attributes: Sequence[str], subtree: bool) -> list[Entry]:
        """What is at these places, asked as whoever asks here. Each protects as this server does; none refers further.

        A place that does not answer makes the whole answer unclear, not empty: who is there is not gone.
        """
        found: list[Entry] = []
        for uri in dict.fromkeys(uris):
            parts = urlsplit(uri)
            there = replace(self.address, uri=f"{parts.scheme}://{parts.netloc}", referral_hosts=frozenset())
            try:
                with session(there, self._register) as other:
                    if any(self._bound_as) and not other.bind(*self._bound_as):
                        raise self.incomplete(f"{self._bound_as[0]} is refused at {there.uri}")
                    entries = other.search(unquote(parts.path[1:]), query, attributes, subtree=subtree)
            except DirectoryUnavailable as error:
                raise self.incomplete(f"a part of it is at {there.uri}: {error.log_message}") from error
            found += [{**entry, SERVER: [there.uri]} for entry in entries]
        return found

    def incomplete(self, detail: str) -> DirectoryUnavailable:
        """The error for an answer that is not whole."""
        return unavailable(self.address, detail, reason="directory_incomplete")

    def _complete(self, entry: Entry) -> Entry:
        """With all values of attributes of which the server gave only a range (MS-ADTS §3.1.1.3.1.3.3)."""
        for part in [key for key in entry if ";range=" in key]:
            name, values = part.partition(";")[0], entry.pop(part)
            last = _last(part)
            if last is not None:
                # What comes may be a range again, which that search completes; it begins further on each time.
                rest = self.search(entry["dn"][0], "(objectClass=*)", [f"{name};range={last + 1}-*"], subtree=False)
                if not rest or not rest[0].get(name):
                    raise unavailable(self.address, f"only {len(values)} values of {name} of {entry['dn'][0]} came")
                values += rest[0][name]
            entry[name] = values
        return entry


def _last(part: str) -> int | None:
    """The last index of ``name;range=0-1499``; None where it is the end, ``*``."""
    end = part.rpartition("-")[2]
    return int(end) if end.isascii() and end.isdigit() else None


def _host_and_port(uri: str) -> str:
    """``host:port`` of a place that is named in a referral; empty where it is none that can be asked."""
    try:
        parts = urlsplit(uri)
        port = parts.port or {"ldap": 389, "ldaps": 636}[parts.scheme]
    except (ValueError, KeyError):
        return ""
    return f"{(parts.hostname or '').lower()}:{port}" if parts.hostname and not parts.username else ""


@contextmanager
def session(address: Address, register: Register = lambda _c: None) -> Iterator[Session]:
    """Connect and protect; unbind at the end. ``register`` gets the connection, so that another thread can cut it.

    Raises DirectoryUnavailable for whatever goes wrong on the way, also a certificate that is not the server's.
    """
    connection = _connection(address)
    register(connection)
    try:
        connection.open(read_server_info=False)
        if not connection.server.ssl and not address.allow_plaintext:
            # Its answer belongs to connecting: a server that is silent costs that time, not the longer one.
            connection.socket.settimeout(address.connect_within_s)
            connection.start_tls(read_server_info=False)
        yield Session(connection, address, register)
    except DaasError:
        raise
    except Exception as error:
        # What ldap3 raises over an answer that is not LDAP, or a socket that was cut, is no closed list.
        raise unavailable(address, f"{type(error).__name__}: {error}") from error
    finally:
        with suppress(Exception):
            connection.unbind()
        # ldap3 closes only what it thinks is open: not a socket whose connect or StartTLS failed.
        with suppress(Exception):
            connection.socket.close()


def cut(connection: Any) -> None:
    """End a connection from outside: a thread that reads from it wakes up at once.

    Only shut down, never closed here: the number of a closed file could be another one's a moment later.
    """
    with suppress(Exception):
        socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)


class _Tls(ldap3.Tls):
    """Python's own check of the certificate's name; ldap3 has a copy of an old one, and sends no server name."""

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        context = ssl.create_default_context(cafile=self.ca_certs_file)
        connection.socket.settimeout(connection.server.connect_timeout)
        connection.socket = context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=do_handshake
        )
        connection.socket.settimeout(connection.receive_timeout)


def _connection(address: Address) -> ldap3.Connection:
    parts = urlsplit(address.uri)
    secure = parts.scheme == "ldaps"
    tls = _Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=address.ca_file)
    server = ldap3.Server(
        address.host,
        port=parts.port or (636 if secure else 389),
        use_ssl=secure,
        tls=tls,
        get_info=ldap3.NONE,
        connect_timeout=address.connect_within_s,
        allowed_referral_hosts=[],
    )
    return ldap3.Connection(
        server,
        client_strategy=ldap3.SYNC,
        auto_referrals=False,
        # Its own way to read ranged attributes says nothing when a part of them does not come.
        auto_range=False,
        return_empty_attributes=False,
        # Whole seconds: ldap3 packs it into a struct timeval.
        receive_timeout=max(1, math.ceil(address.answer_within_s)),
        raise_exceptions=False,
        check_names=False,
        read_only=True,
    )


def _entry(found: dict[str, Any]) -> Entry:
    values: Entry = {"dn": [found["dn"]]}
    for name, raw in found["raw_attributes"].items():
        # The binary attributes that are asked for, in Active Directory's own forms.
        if name.lower() == "objectguid":
            values["objectguid"] = [str(uuid.UUID(bytes_le=value)) for value in raw if len(value) == 16]
        elif name.lower() in {"objectsid", "tokengroups"}:
            values[name.lower()] = [sid for value in raw if (sid := sid_text(value)) is not None]
        else:
            values[name.lower()] = [value.decode("utf-8", "replace") for value in raw]
    return values


def unavailable(address: Address, detail: str, *, reason: str | None = None) -> DirectoryUnavailable:
    """The error for people and the one for the log."""
    return DirectoryUnavailable(
        "The site's directory cannot be reached just now. Your password was not judged; try again in a minute.",
        reason=reason,
        log_message=f"directory {address.uri}: {detail[:300]}",
        retry_after_s=30,
    )
