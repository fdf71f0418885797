"""Settings of ``DaasLDAPAuthenticator`` that say where the directory's servers are."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from traitlets import Bool, Float, HasTraits, List, Set, Unicode, default

from daas_hub.core.errors import ConfigError
from daas_hub.core.failover import Server, Tier, listed

_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62}\.)*[a-z0-9-]{1,63}\.?", re.IGNORECASE | re.ASCII)
_PLACE = re.compile(r"[a-z0-9_]([a-z0-9_.:-]{0,251}[a-z0-9])?:[1-9][0-9]{0,4}", re.ASCII)


class LDAPServers(HasTraits):
    """A mixin of ``DaasLDAPAuthenticator``."""

    log: Any

    server_uris = List(
        Unicode(),
        help="The directory's servers, best first: `ldaps://host:636`, or `ldap://host:389` with StartTLS. Each is "
        "asked when those before it fail. All must be copies of one directory.",
    ).tag(config=True)

    backup_server_uris = List(
        Unicode(),
        help="Servers that are asked only when all of `server_uris` and `srv_domain` fail, best first.",
    ).tag(config=True)

    srv_domain = Unicode(
        help="Domain whose servers DNS tells (`_ldap._tcp.DOMAIN`, RFC 2782), with StartTLS, after those of "
        "`server_uris`. Only servers inside the domain are asked, because the certificate is checked against the name "
        "that DNS gave. Empty: DNS is not asked.",
    ).tag(config=True)

    referral_hosts = Set(
        Unicode(),
        help="Other servers (`host:port`) that hold parts of the directory: where a server refers to one of these, it "
        "is asked too, with the service account, and gets the passwords of people whose entries it has; same CA, TLS "
        "as here. Empty: no referral is followed, because whoever can write one would collect passwords.",
    ).tag(config=True)

    allow_plaintext = Bool(
        False,
        help="Send passwords over `ldap://` without TLS. False, because anybody on the way could read them; logged as "
        "a warning at every start. Only for a directory on the same machine.",
    ).tag(config=True)

    hold_down_s = Float(
        min=0,
        help="Seconds after a failure of a server during which others are asked instead, and nobody is made to wait "
        "for it. Default: 30, as sssd does; 5 where there is only one, because there nobody else can be asked. "
        "0: no such time.",
    ).tag(config=True)

    @default("hold_down_s")
    def _hold_down(self) -> float:
        several = self.srv_domain or len(self.server_uris) + len(self.backup_server_uris) > 1
        return 30.0 if several else 5.0

    def listed_servers(self) -> tuple[Server, ...]:
        """The servers that are listed. Raises ConfigError for what cannot work."""
        if not self.server_uris and not self.srv_domain:
            raise ConfigError(
                "DaasLDAPAuthenticator.server_uris is empty; give at least one address, or srv_domain for DNS."
            )
        if self.srv_domain and not _DOMAIN.fullmatch(self.srv_domain):
            raise ConfigError(f"DaasLDAPAuthenticator.srv_domain {self.srv_domain!r} is no domain's name.")
        for setting in ("server_uris", "backup_server_uris"):
            for uri in getattr(self, setting):
                _check(setting, uri)
        for place in self.referral_hosts:
            if not _PLACE.fullmatch(place):
                name = f"DaasLDAPAuthenticator.referral_hosts: {place!r}"
                raise ConfigError(f"{name} must be host:port, in small letters.")
        both = [*self.server_uris, *self.backup_server_uris]
        twice = {uri for uri in both if both.count(uri) > 1}
        if twice:
            raise ConfigError(f"DaasLDAPAuthenticator.server_uris names {', '.join(sorted(twice))} twice.")
        plain = [uri for uri in both if uri.startswith("ldap://")] + ([self.srv_domain] if self.srv_domain else [])
        if self.allow_plaintext and plain:
            self.log.warning(
                "DaasLDAPAuthenticator.allow_plaintext is on: passwords go to %s without TLS.", ", ".join(plain)
            )
        return (*listed(self.server_uris, Tier.PRIMARY), *listed(self.backup_server_uris, Tier.BACKUP))


def _check(setting: str, uri: str) -> None:
    name = f"DaasLDAPAuthenticator.{setting}: {uri!r}"
    if not uri.startswith(("ldap://", "ldaps://")):
        raise ConfigError(f"{name} must begin with ldap:// or ldaps://.")
    try:
        parts = urlsplit(uri)
        wrong = not parts.hostname or parts.port == 0 or parts.path.strip("/") or parts.query or parts.username
    except ValueError:
        wrong = True
    if wrong:
        raise ConfigError(f"{name} must be ldaps://host[:port] or ldap://host[:port], nothing else.")
