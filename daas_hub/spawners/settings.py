"""DaasSpawner's own settings, apart from the flow that uses them."""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Dict, HasTraits, List, Union, validate
from traitlets import Callable as CallableTrait

from .options import shrunk


class SpawnerSettings(HasTraits):
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

    def account_policy(self):
        return None
