"""DaasSpawner's own settings, apart from the flow that uses them."""

from __future__ import annotations

from traitlets import Callable as CallableTrait
from traitlets import Bool, Dict, HasTraits, List, Union


class SpawnerSettings(HasTraits):
    """Traits of ``c.DaasSpawner`` beyond JupyterHub's own."""

    profile_list = Union(
        [List(trait=Dict()), CallableTrait()],
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
        "resources, environment and volumes; or a callable of the spawner that returns such a list. See "
        "docs/reference/profiles.md. The default is one small profile, so that a first start works.",
    ).tag(config=True)

    use_nss = Bool(
        True,
        help="Ask NSS (passwd, sssd) for the account and demand that it agrees with the directory on uid and gid. "
        "True, because a machine's own account of the same name is not the directory's. False only where NSS "
        "cannot be asked, as in a container.",
    ).tag(config=True)

    def account_policy(self):
        return None
