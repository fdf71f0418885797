"""What can be set for one OpenID provider, and the refusal of what cannot work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from traitlets import Bool, Dict, Enum, Float, HasTraits, List, Set, Unicode, default

from daas_hub.clients.oidc import ProviderSettings
from daas_hub.core.errors import ConfigError
from daas_hub.core.id_token import ALGORITHMS
from daas_hub.core.linking import NO_ATTRIBUTES, NO_CLAIMS, LinkRule
from daas_hub.core.oidc_claims import POSIX, ClaimRules
from daas_hub.core.oidc_presets import PRESETS, default_of

CLASS = "DaasOIDCAuthenticator"
REPLACED = frozenset(
    {
        # discovery says where things are
        "authorize_url",
        "token_url",
        "userdata_url",
        # what is proved and how is not up to a setting
        "userdata_from_id_token",
        "userdata_params",
        "userdata_token_method",
        "token_params",
        "basic_auth",
        "enable_pkce",
        "http_request_kwargs",
        "validate_server_cert",
        "tls_verify",
        "extra_params",
        # in files: a configuration is shown, copied and committed
        "client_secret",
        # claims have settings of their own here
        "username_key",
        "claim_groups_key",
        "auth_state_groups_key",
        "allowed_scopes",
        "modify_auth_state_hook",
        "refresh_user_hook",
        "logout_redirect_url",
    }
)
"""Settings of oauthenticator's classes that do nothing here, so that setting one stops the hub's start."""
OURS = frozenset(
    {"response_type", "response_mode", "client_id", "redirect_uri", "scope", "state", "nonce"}
) | frozenset({"code_challenge", "code_challenge_method", "request", "request_uri"})


ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
"""RFC 4512 §1.4."""


class OIDCSettings(HasTraits):
    """One provider: who it is, what of it is believed, whom it lets in. A part of the authenticator."""

    log: Any
    client_id: Any
    scope: Any
    extra_authorize_params: Any
    way_name: Any

    preset = Enum(
        sorted(PRESETS),
        "",
        help="Defaults for a kind of provider: `keycloak`, `entra`, `gitlab`, `github`, or empty for any OpenID "
        "provider. Every other setting beats it.",
    ).tag(config=True)

    issuer = Unicode(
        help="The provider's issuer, exactly as it says itself, for example `https://keycloak.site/realms/lab`. "
        "Everything else is discovered from it. Part of the key of accounts: changing it makes everybody a new person."
    ).tag(config=True)

    client_secret_file = Unicode(
        help="File with the client's secret, one line, readable by the hub only. Empty: a public client (PKCE alone)."
    ).tag(config=True)

    endpoints = Dict(
        Unicode(),
        Unicode(),
        help="Only for providers without OpenID Connect (GitHub): authorization_endpoint, token_endpoint and "
        "userinfo_endpoint. Then there is no id_token; empty, as for all others, discovery says it.",
    ).tag(config=True)

    tls_ca_file = Unicode(
        None, allow_none=True, help="File with the CA certificates (PEM) for the provider. None: the machine's own."
    ).tag(config=True)

    allow_plaintext = Bool(
        False,
        help="Allow `http://` addresses of the provider. False, because tokens and the client's secret would be "
        "readable on the way; logged as a warning at every start. Only for a provider on the same machine.",
    ).tag(config=True)

    algorithms = List(
        Unicode(),
        sorted(ALGORITHMS),
        help="Signatures of id_tokens that are accepted. `none` and `HS*` cannot be added.",
    ).tag(config=True)

    clock_leeway_s = Float(
        60.0,
        min=0,
        max=300,
        help="Seconds that the provider's clock and this one may be apart. More than 300 is refused.",
    ).tag(config=True)

    subject_claim = Unicode(
        help="Claim with the lasting id, `sub` for every OpenID provider. Another one only without OpenID Connect."
    ).tag(config=True)

    username_claim = Unicode(
        "",
        help="Claim with the login name, only for an issuer whose names nobody can change and which never gives one "
        "to a second person. Empty: a name made of issuer and subject, which is always safe.",
    ).tag(config=True)

    name_prefix = Unicode("u", help="Begins the names that are made of issuer and subject: `u-4f0c…`.").tag(config=True)

    groups_claim = List(
        Unicode(),
        help="Where the groups are: one name, or the names of nested objects, outermost first, such as "
        "`['realm_access', 'roles']`. Empty: no groups are read.",
    ).tag(config=True)

    groups_required = Bool(
        help="Refuse a sign-in without that claim. True, because somebody would lose all her groups silently; False "
        "where the provider leaves it out for people without groups (the presets of Keycloak and Entra ID): there a "
        "person's last group could not be taken away."
    ).tag(config=True)

    group_prefix = Unicode(
        "", help="Put before each group's name, so that a provider cannot name a group of somebody else's."
    ).tag(config=True)

    groups_overage_url = Unicode(
        "",
        help="Where groups are asked for that do not fit into a token, with Entra ID "
        "`https://graph.microsoft.com/v1.0/me/getMemberObjects`. Empty: such a sign-in is refused. Addresses that a "
        "token names are never asked.",
    ).tag(config=True)

    mail_domains = Set(
        Unicode(),
        help="Mail domains that this issuer is trusted for; of others no address is taken. Empty: none is taken.",
    ).tag(config=True)

    mail_verified_claim = Unicode(
        help="Claim that says whether the address was verified; only `true` counts. `email_verified` for most."
    ).tag(config=True)

    posix_claims = Dict(
        Unicode(),
        Unicode(),
        help="For an issuer that is authoritative for POSIX accounts: which claims are `uid_number`, `gid_number`, "
        "`home` and `shell`. Empty: an administrator enters accounts.",
    ).tag(config=True)

    link_by = Dict(
        Unicode(),
        Unicode(),
        help="For an issuer that is authoritative for the people of the site's directory: `claim` has the value of "
        "`attribute` in the directory of the way `directory`, and whoever comes for the first time is linked to that "
        "entry without a password. Never a name or a mail address. Empty: people prove both sides.",
    ).tag(config=True)

    blocked_groups = Set(
        Unicode(), help="Groups whose members may not sign in, administrators too: it beats every allowance."
    ).tag(config=True)

    connect_within_s = Float(
        3.0, min=0.1, help="Seconds to connect to the provider; then it counts as unreachable."
    ).tag(config=True)
    answer_within_s = Float(6.0, min=0.1, help="Seconds that the provider may take for one whole answer.").tag(
        config=True
    )
    login_within_s = Float(
        15.0, min=0.1, help="Seconds for all questions of one sign-in; after that the person is asked to try again."
    ).tag(config=True)

    @default("login_service")
    def _button(self) -> str:
        return str(default_of(self.preset, "login_service", "OpenID Connect"))

    @default("issuer")
    def _issuer(self) -> str:
        return str(default_of(self.preset, "issuer", ""))

    @default("scope")
    def _scope(self) -> Any:
        return default_of(self.preset, "scope", ["openid", "profile", "email"])

    @default("endpoints")
    def _endpoints(self) -> Any:
        return default_of(self.preset, "endpoints", {})

    @default("subject_claim")
    def _subject_claim(self) -> str:
        return str(default_of(self.preset, "subject_claim", "sub"))

    @default("groups_claim")
    def _groups_claim(self) -> Any:
        return default_of(self.preset, "groups_claim", ["groups"])

    @default("groups_required")
    def _groups_required(self) -> bool:
        return bool(default_of(self.preset, "groups_required", True))

    @default("mail_verified_claim")
    def _mail_verified_claim(self) -> str:
        return str(default_of(self.preset, "mail_verified_claim", "email_verified"))

    def claim_rules(self) -> ClaimRules:
        """What is believed of the issuer. Raises ConfigError."""
        if set(self.posix_claims) - set(POSIX):
            raise ConfigError(
                f"{CLASS}.posix_claims: {sorted(set(self.posix_claims) - set(POSIX))}; it may have {POSIX}."
            )
        if self.subject_claim != "sub" and not self.endpoints:
            raise ConfigError(f"{CLASS}.subject_claim must be sub: only that is lasting in OpenID Connect.")
        return ClaimRules(
            issuer=self.issuer,
            subject_claim=self.subject_claim,
            name_claim=self.username_claim,
            name_prefix=self.name_prefix,
            groups_path=tuple(self.groups_claim),
            groups_required=self.groups_required,
            group_prefix=self.group_prefix,
            mail_domains=frozenset(domain.lower() for domain in self.mail_domains),
            mail_verified_claim=self.mail_verified_claim,
            posix=dict(self.posix_claims),
            link_claim=self.link_by.get("claim", ""),
        )

    def rule_of_links(self) -> LinkRule | None:
        """What the issuer is believed about entries of the directory. Raises ConfigError."""
        if not self.link_by:
            return None
        if set(self.link_by) != {"claim", "directory", "attribute"} or not all(self.link_by.values()):
            raise ConfigError(f"{CLASS}.link_by has {sorted(self.link_by)}; it needs claim, directory and attribute.")
        if not self.way_name:
            raise ConfigError(f"{CLASS}.link_by has no effect without a directory: see DaasAuthenticator.ways.")
        rule = LinkRule(**self.link_by)
        if rule.claim.lower() in NO_CLAIMS or rule.attribute.lower() in NO_ATTRIBUTES:
            raise ConfigError(
                f"{CLASS}.link_by: {rule.claim} and {rule.attribute} are believed of nobody: people choose names and "
                "addresses, or share them. Take a lasting id, such as eduPersonUniqueId, employeeNumber or entryUUID."
            )
        if ATTRIBUTE.fullmatch(rule.attribute) is None:
            raise ConfigError(f"{CLASS}.link_by: {rule.attribute!r} is no name of an attribute.")
        return rule

    def provider_settings(self) -> ProviderSettings:
        """The settings in the form of the client. Raises ConfigError for what cannot work."""
        for name in ("issuer", "client_id"):
            if not getattr(self, name):
                raise ConfigError(f"{CLASS}.{name} is empty; the provider's administrator knows it.")
        if set(self.algorithms) - ALGORITHMS or not self.algorithms:
            raise ConfigError(f"{CLASS}.algorithms {self.algorithms!r}: it may have {', '.join(sorted(ALGORITHMS))}.")
        if not self.endpoints and "openid" not in self.scope:
            raise ConfigError(f"{CLASS}.scope {self.scope!r} needs openid.")
        needed = {"authorization_endpoint", "token_endpoint", "userinfo_endpoint"}
        if self.endpoints and set(self.endpoints) != needed:
            raise ConfigError(f"{CLASS}.endpoints has {sorted(self.endpoints)}; it needs exactly {sorted(needed)}.")
        if OURS & set(self.extra_authorize_params):
            raise ConfigError(
                f"{CLASS}.extra_authorize_params must not have {sorted(OURS & set(self.extra_authorize_params))}."
            )
        if self.tls_ca_file is not None and not Path(self.tls_ca_file).is_file():
            raise ConfigError(f"{CLASS}.tls_ca_file {self.tls_ca_file!r} is not a file.")
        if self.allow_plaintext:
            self.log.warning("%s.allow_plaintext is on: tokens may travel without TLS.", CLASS)
        return ProviderSettings(
            issuer=self.issuer,
            client_id=self.client_id,
            client_secret=self._secret(),
            ca_file=self.tls_ca_file,
            allow_plaintext=self.allow_plaintext,
            connect_within_s=self.connect_within_s,
            answer_within_s=self.answer_within_s,
            metadata=dict(self.endpoints) or None,
        )

    def _secret(self) -> str:
        if not self.client_secret_file:
            return ""
        try:
            return Path(self.client_secret_file).read_text().rstrip("\r\n")
        except OSError as error:
            raise ConfigError(
                f"{CLASS}.client_secret_file {self.client_secret_file!r} cannot be read: {error.strerror}."
            ) from error
