"""One form of each name for every way in: what people type, what a directory says, settings, and JupyterHub's REST."""

from __future__ import annotations

from typing import Any

from jupyterhub.auth import Authenticator

from daas_hub.core.errors import ConfigError
from daas_hub.core.naming import login_name, unusable

LISTS = ("admin_users", "allowed_users", "blocked_users")


class OneName(Authenticator):
    """The first parent of our authenticators. Every check of a name sees it normalised, on both sides.

    JupyterHub itself makes names lower-case only, and leaves ``blocked_users`` as it was written.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        usable = {self._usable("username_map", old): new for old, new in self.username_map.items()}
        self.set_trait("username_map", usable)
        for new in usable.values():
            if self._usable("username_map", new) != new:
                raise ConfigError(f"{self._setting('username_map')}: {new!r} must be written as {login_name(new)!r}.")
        for setting in LISTS:
            given = {self._usable(setting, name) for name in getattr(self, setting)}
            # Whoever is blocked is so under the name that she came with and under the one that she is given here.
            mapped = {usable.get(name, name) for name in given}
            setattr(self, setting, given | mapped if setting == "blocked_users" else given)

    def _usable(self, setting: str, name: str) -> str:
        usable = login_name(name)
        if usable is None:
            raise ConfigError(
                f"{self._setting(setting)} has the name {unusable(name)}, which nobody can have: names are letters of "
                "a-z, digits and . _ @ + -, at most 64 in all, and begin with a letter, a digit or _."
            )
        return usable

    def _setting(self, setting: str) -> str:
        return f"{type(self).__name__}.{setting}"

    def normalize_username(self, username: Any) -> str:
        """The one form of a name, mapped where the site maps it; of what can be nobody's, a short text that is none."""
        name = login_name(username) if isinstance(username, str) else None
        if name is None:
            return unusable(username)
        mapped: str = self.username_map.get(name, name)
        return mapped

    def validate_username(self, username: str) -> bool:
        """Whether this is the one form of a name that somebody can have."""
        valid: bool = super().validate_username(username)
        return valid and login_name(username) == username
