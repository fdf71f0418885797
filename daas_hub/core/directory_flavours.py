"""The kinds of directories that sites have, as presets: what is where, and how groups nest. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .directory_ad import AD_ATTRIBUTES


class NestedGroups(StrEnum):
    """How groups that are members of groups are found."""

    NONE = "none"
    """Only the groups that a person herself is in."""
    MEMBER = "member"
    """This hub asks for the groups of her groups, level by level."""
    MEMBEROF = "memberof"
    """This hub reads `memberOf` of her entry, of those groups, and so on."""
    IN_CHAIN = "in_chain"
    """Active Directory's matching rule 1.2.840.113556.1.4.1941."""
    TOKEN_GROUPS = "token_groups"  # noqa: S105
    """Active Directory's own answer: what it would write into her Kerberos ticket."""


@dataclass(frozen=True)
class Flavour:
    """One preset; each value can be set by itself."""

    user_filter: str
    name_attribute: str
    login_attributes: tuple[str, ...]
    """Attributes with another name or address that she may type."""
    home_attribute: str
    group_filter: str
    """Finds the groups that a person herself is in."""
    group_condition: str
    """What every group must be to count."""
    group_name_attribute: str
    nested_groups: NestedGroups
    more_attributes: tuple[str, ...] = ()
    """What is read of a person besides what every directory has."""


SECURITY_GROUPS = (
    "(&(objectClass=group)(groupType:1.2.840.113556.1.4.803:=2147483648)(!(groupType:1.2.840.113556.1.4.803:=1)))"
)
"""Groups that Windows itself takes for access: no mailing lists (MS-ADTS §2.2.12), none of the built-in ones."""

FLAVOURS = {
    "rfc2307": Flavour(
        user_filter="(&(objectClass=posixAccount)(uid={name}))",
        name_attribute="uid",
        login_attributes=(),
        home_attribute="homeDirectory",
        group_filter="(|(memberUid={name})(member={dn})(&(objectClass=posixGroup)(gidNumber={gid})))",
        group_condition="",
        group_name_attribute="cn",
        nested_groups=NestedGroups.NONE,
    ),
    "rfc2307bis": Flavour(
        user_filter="(&(objectClass=posixAccount)(uid={name}))",
        name_attribute="uid",
        login_attributes=(),
        home_attribute="homeDirectory",
        group_filter="(|(member={dn})(&(objectClass=posixGroup)(gidNumber={gid})))",
        group_condition="",
        group_name_attribute="cn",
        nested_groups=NestedGroups.MEMBER,
    ),
    "ad": Flavour(
        # sAMAccountType 805306368: a user, neither a computer nor a trust (MS-SAMR §2.2.1.9); it is indexed.
        user_filter="(&(sAMAccountType=805306368)(sAMAccountName={name}))",
        name_attribute="sAMAccountName",
        login_attributes=("userPrincipalName", "mail"),
        # homeDirectory is a Windows share there.
        home_attribute="unixHomeDirectory",
        group_filter="(member={dn})",
        group_condition=SECURITY_GROUPS,
        group_name_attribute="sAMAccountName",
        nested_groups=NestedGroups.TOKEN_GROUPS,
        more_attributes=AD_ATTRIBUTES,
    ),
}
