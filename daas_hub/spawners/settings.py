"""DaasSpawner's own settings, apart from the flow that uses them."""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Dict, Int, List, Unicode, Union, validate
from traitlets import Callable as CallableTrait

from daas_hub.accounts.resolve import Sources
from daas_hub.core.account import DENIED, RESERVED, AccountPolicy
from daas_hub.core.allocation import Kind, Ranges, check_ranges
from daas_hub.core.errors import ConfigError

from .kept_options import shrunk
from .placement_settings import PlacementSettings
from .sid_settings import SidMapTraits


class SpawnerSettings(SidMapTraits, PlacementSettings):
    """Traits of ``c.DaasSpawner`` beyond JupyterHub's own."""

    profile_list = Union(
        [List(trait=Dict()), Dict(), CallableTrait()],
        default_value=[
            {
                "display_name": "Default",
                "slug": "default",
                "description": "One server with 1 core and 1 GiB of memory.",
                "default": True,
                "resources": {"cpu_limit": 1, "mem_limit": "1G"},
            }
        ],
        help="The profiles people choose from, in KubeSpawner's format (display_name, slug, description, default, "
        "profile_options, kubespawner_override) plus allowed_groups (on a profile, an option or a choice), backend, "
        "resources, environment and volumes; or a callable of the spawner that returns such a list, which may be "
        "async and has 10 s. See docs/reference/profiles.md. It must not be empty. The default is one small profile, "
        "so that a first start works.",
    ).tag(config=True)

    @validate("user_options")
    def _small_options(self, proposal: Any) -> dict[str, Any]:
        """Never large or deep, whoever sets them: the hub's lists of servers show them."""
        return shrunk(proposal["value"])

    use_nss = Bool(
        True,
        help="Ask NSS (passwd, sssd) for the account and demand that it agrees with the directory on uid and gid. "
        "True, because a machine's own account of the same name is not the directory's. False only where NSS "
        "cannot be asked, as in a container.",
    ).tag(config=True)

    mail_after_s = Int(
        60,
        min=0,
        help="A mail that says that a server is ready is sent only where its start took longer than this, in seconds; "
        "who wants one says so on the page of the start, or by REST. 60: whoever waited less is still there. 0: "
        "always.",
    ).tag(config=True)

    min_uid = Int(
        1000,
        min=1,
        help="The lowest uid that may run a server. 1000, because distributions give lower ones to the system. "
        "There is no way to allow uid 0.",
    ).tag(config=True)

    reserved_uids = List(
        List(Int(), minlen=2, maxlen=2),
        [list(pair) for pair in RESERVED],
        help="Ranges of uids `[first, last]` that never run a server. The defaults are systemd's own ranges, nobody, "
        "and uids that are negative in signed arithmetic. An empty list reserves nothing.",
    ).tag(config=True)

    denied_accounts = List(
        Unicode(),
        list(DENIED),
        help="Account names that never run a server, whatever their uid. The default lists usual system accounts.",
    ).tag(config=True)

    allocated_uids = List(
        List(Int(), minlen=2, maxlen=2),
        help="Ranges of uids `[first, last]` that this hub gives to people to whom no other source gives one, in this "
        "order, each number once and for ever. Empty, the default: nobody is given any, because a site with a "
        "directory has its numbers there. Nothing else on the site may give numbers from them.",
    ).tag(config=True)

    allocated_gids = List(
        List(Int(), minlen=2, maxlen=2),
        help="The same for gids: everybody who is given a uid is given a group of her own. May be the same ranges.",
    ).tag(config=True)

    fallback_home = Unicode(
        "",
        help="Home folder of people for whom no source names one, with `{name}` for the login name; sssd calls it "
        "fallback_homedir. A person keeps the one that she had first, also after a rename. Empty: such people are "
        "refused, because a wrong folder is worse than none.",
    ).tag(config=True)

    @validate("fallback_home")
    def _a_folder_for_each(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if value and not (value.startswith("/") and value.count("{name}") == 1 and value.count("{") == 1):
            raise ConfigError(
                f"DaasSpawner.fallback_home is {value!r}; it must be an absolute path with {{name}} once and no other "
                "placeholder, as /home/{name}, so that nobody gets somebody else's folder."
            )
        return value

    def sources(self) -> Sources:
        """Which sources are asked for accounts. Raises ConfigError where none is left."""
        sids = self.sid_settings()
        if sids is None and not self.use_posix_attributes:
            raise ConfigError("DaasSpawner.use_posix_attributes is off, and so is sid_map: one of them must be on.")
        return Sources(posix_attributes=self.use_posix_attributes, sids=sids, nss=self.use_nss)

    def allocator_ranges(self) -> dict[Kind, Ranges]:
        """What may be given away; empty: nothing. Raises ConfigError for ranges that cannot work."""
        taken = [(self.sid_range_min, self.sid_range_max)] if self.sid_map else []
        check_ranges(self.allocated_uids, self.allocated_gids, self.account_policy(), taken)
        if not self.allocated_uids:
            return {}
        both = {Kind.UID: self.allocated_uids, Kind.GID: self.allocated_gids}
        return {kind: tuple((first, last) for first, last in ranges) for kind, ranges in both.items()}

    def account_policy(self) -> AccountPolicy:
        """Which accounts may run servers, from the settings."""
        return AccountPolicy(
            min_uid=self.min_uid,
            reserved=tuple((first, last) for first, last in self.reserved_uids),
            denied=frozenset(self.denied_accounts),
        )
