"""DaasSpawner's settings that say how Active Directory's SIDs become uids and gids: one way for the whole site."""

from __future__ import annotations

from traitlets import Bool, HasTraits, Int, List, Unicode

from daas_hub.core.sid_map import SidSettings, check

_DEFAULTS = SidSettings()


class SidMapTraits(HasTraits):
    """Traits of ``c.DaasSpawner``. Names and defaults are sssd's, so that both give the same numbers."""

    sid_map = Bool(
        False,
        help="Compute uid and gids from Active Directory's SIDs as sssd does with `ldap_id_mapping = true`. False, "
        "because a site whose directory has uidNumber must not be given other numbers. The settings below must be "
        "those of sssd on the machines that serve the files.",
    ).tag(config=True)

    use_posix_attributes = Bool(
        True,
        help="Take uidNumber, gidNumber and groups' gidNumber of the directory, and demand that they agree with all "
        "other sources. False only with `sid_map`, where the directory has numbers that nobody uses any more: sssd "
        "ignores them, too, when it maps SIDs.",
    ).tag(config=True)

    sid_range_min = Int(
        _DEFAULTS.range_min, help="The lowest number that SIDs are mapped to; sssd: ldap_idmap_range_min."
    ).tag(config=True)

    sid_range_max = Int(
        _DEFAULTS.range_max, help="The end of these numbers, itself not used; sssd: ldap_idmap_range_max."
    ).tag(config=True)

    sid_range_size = Int(
        _DEFAULTS.range_size,
        help="How many numbers a domain has in one piece; sssd: ldap_idmap_range_size. Best larger than the last RID.",
    ).tag(config=True)

    sid_default_domain = Unicode(
        help="SID of the domain that has the first piece of the range; sssd: ldap_idmap_default_domain_sid. Empty: "
        "no domain has it by name.",
    ).tag(config=True)

    sid_domains = List(
        Unicode(),
        help="SIDs of all domains of a forest that has several, in the order in which sssd met them. Empty for one "
        "domain. A domain that is not listed is mapped only where no listed one is in its way.",
    ).tag(config=True)

    sid_autorid = Bool(
        _DEFAULTS.autorid,
        help="Pieces in the order of the domains, as winbind's autorid does it; sssd: ldap_idmap_autorid_compat. "
        "False is sssd's default. Then every domain must be listed.",
    ).tag(config=True)

    sid_helper_slices = Int(
        _DEFAULTS.helpers,
        help="Further pieces that a domain is sure to have for RIDs beyond `sid_range_size`; sssd: "
        "ldap_idmap_helper_table_size. 0: such RIDs are refused.",
    ).tag(config=True)

    def sid_settings(self) -> SidSettings | None:
        """The settings in the form of ``core/sid_map.py``; None: SIDs are not mapped. Raises ConfigError."""
        if not self.sid_map:
            return None
        settings = SidSettings(
            range_min=self.sid_range_min,
            range_max=self.sid_range_max,
            range_size=self.sid_range_size,
            autorid=self.sid_autorid,
            default_domain=self.sid_default_domain,
            domains=tuple(self.sid_domains),
            helpers=self.sid_helper_slices,
        )
        check(settings)
        return settings
