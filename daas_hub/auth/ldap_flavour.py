"""Settings of ``DaasLDAPAuthenticator`` that say what the site's directory looks like: a preset, and each by itself."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from traitlets import Enum, HasTraits, Int, List, Unicode, default

from daas_hub.core.directory_flavours import FLAVOURS, Flavour, NestedGroups
from daas_hub.core.errors import ConfigError

_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*", re.ASCII)


class LDAPFlavour(HasTraits):
    """A mixin of ``DaasLDAPAuthenticator``."""

    flavour = Enum(
        sorted(FLAVOURS),
        "rfc2307",
        help="The kind of directory, which sets the defaults of the settings below: `rfc2307` (members by name), "
        "`rfc2307bis` (members by DN, groups in groups), `ad` (Active Directory and Samba).",
    ).tag(config=True)

    user_filter = Unicode(
        help="Filter that finds the one entry of `{name}` (escaped). Default by `flavour`.",
    ).tag(config=True)

    name_attribute = Unicode(
        help="Attribute with the login name; an entry counts only if it is the name that was typed. Default by "
        "`flavour`."
    ).tag(config=True)

    login_attributes = List(
        Unicode(),
        help="Attributes with an address that a person may type instead of her login name, best first; the account is "
        "the same. Default by `flavour`: `userPrincipalName` and `mail` for `ad`, else none. Only attributes that "
        "people cannot change themselves.",
    ).tag(config=True)

    login_domains = List(
        Unicode(),
        help="Names of the site's domain that may stand before the login name (`SITE\\ada`) or, where nobody has that "
        "address, behind it (`ada@site.org`): NetBIOS and DNS names. Empty: neither is understood.",
    ).tag(config=True)

    home_attribute = Unicode(
        help="Attribute with the home folder. Default by `flavour`: `unixHomeDirectory` for `ad`, else `homeDirectory`."
    ).tag(config=True)

    group_filter = Unicode(
        help="Filter that finds the groups that a person herself is in, by `{name}`, `{dn}` and primary group `{gid}` "
        "(escaped). Not used with `nested_groups` `in_chain` and `token_groups`. Default by `flavour`.",
    ).tag(config=True)

    group_condition = Unicode(
        help="Filter that every group must pass to count. Default by `flavour`: for `ad` security groups that are not "
        "built in, else none.",
    ).tag(config=True)

    group_name_attribute = Unicode(
        help="Attribute with a group's name. Default by `flavour`: `sAMAccountName` for `ad`, else `cn`."
    ).tag(config=True)

    member_attribute = Unicode(
        "member",
        help="Attribute of a group that names its members by DN, for `nested_groups` `member`; some sites have "
        "`uniqueMember`.",
    ).tag(config=True)

    nested_groups = Enum(
        [way.value for way in NestedGroups],
        help="How groups in groups are found: `none`; `member`: asked for level by level; `memberof`: by that "
        "attribute of people and groups; `in_chain` and `token_groups`: Active Directory's own rules. Default by "
        "`flavour`: `none`, `member` for `rfc2307bis`, `token_groups` for `ad`.",
    ).tag(config=True)

    nested_depth = Int(
        10,
        min=0,
        help="Levels of groups above a person's own that are followed with `member` and `memberof`. Groups that nest "
        "deeper are a failure that names this setting, because rights would be missing without a word. 10 is deeper "
        "than sites nest; each level costs one search.",
    ).tag(config=True)

    @property
    def preset(self) -> Flavour:
        """The values of the chosen kind of directory."""
        return FLAVOURS[self.flavour]

    @default("user_filter")
    def _preset_user_filter(self) -> str:
        return self.preset.user_filter

    @default("name_attribute")
    def _preset_name_attribute(self) -> str:
        return self.preset.name_attribute

    @default("login_attributes")
    def _preset_login_attributes(self) -> list[str]:
        return list(self.preset.login_attributes)

    @default("home_attribute")
    def _preset_home_attribute(self) -> str:
        return self.preset.home_attribute

    @default("group_filter")
    def _preset_group_filter(self) -> str:
        return self.preset.group_filter

    @default("group_condition")
    def _preset_group_condition(self) -> str:
        return self.preset.group_condition

    @default("group_name_attribute")
    def _preset_group_name_attribute(self) -> str:
        return self.preset.group_name_attribute

    @default("nested_groups")
    def _preset_nested_groups(self) -> str:
        return self.preset.nested_groups.value

    def flavour_settings(self) -> dict[str, Any]:
        """Their values as ``DirectorySettings`` takes them. Raises ConfigError for what cannot work."""
        check_template("user_filter", self.user_filter, {"name"}, needs={"name"})
        check_template("group_filter", self.group_filter, {"name", "dn", "gid"}, needs={"name", "dn"})
        check_template("group_condition", self.group_condition, set())
        for setting in ("name_attribute", "home_attribute", "group_name_attribute", "member_attribute"):
            check_attribute(setting, getattr(self, setting))
        for attribute in self.login_attributes:
            check_attribute("login_attributes", attribute)
        return {
            "user_filter": self.user_filter,
            "name_attribute": self.name_attribute,
            "login_attributes": tuple(self.login_attributes),
            "login_domains": tuple(self.login_domains),
            "home_attribute": self.home_attribute,
            "group_filter": self.group_filter,
            "group_condition": self.group_condition,
            "group_name_attribute": self.group_name_attribute,
            "member_attribute": self.member_attribute,
            "nested_groups": NestedGroups(self.nested_groups),
            "nested_depth": self.nested_depth,
            "more_attributes": self.preset.more_attributes,
        }


def check_template(setting: str, template: str, allowed: set[str], *, needs: Set[str] = frozenset()) -> None:
    """Raise ConfigError for a filter with a placeholder that does not exist, or without any that it needs."""
    used = set(re.findall(r"\{(\w*)\}", template))
    if used - allowed or (needs and not needs & used):
        known = ", ".join(f"{{{name}}}" for name in sorted(allowed)) or "no placeholder"
        must = f" and must have {' or '.join(f'{{{name}}}' for name in sorted(needs))}" if needs else ""
        raise ConfigError(f"DaasLDAPAuthenticator.{setting} {template!r}: it may have {known}{must}.")


def check_attribute(setting: str, name: str) -> None:
    """Raise ConfigError for what is no attribute's name: it becomes a part of filters."""
    if not _ATTRIBUTE.fullmatch(name):
        raise ConfigError(
            f"DaasLDAPAuthenticator.{setting}: {name!r} is no attribute's name (letters, digits and dashes)."
        )
