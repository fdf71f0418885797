"""A hub with daas_hub on one machine, signed in to by the site's directory. Change what stands between the lines.

Start it as root with the key that sign-ins are encrypted with, kept outside the database:

    JUPYTERHUB_CRYPT_KEY=$(cat /etc/daas-hub/crypt-key) jupyterhub -f jupyterhub_config.py

`daas-hub doctor -f jupyterhub_config.py` says what is missing. All settings: docs/reference/.
"""

from daas_hub import configure

c = get_config()  # noqa: F821  JupyterHub provides it

# ---------------------------------------------------------------- change this

# Where people sign in. The service bind looks people up; their own bind proves the password.
c.JupyterHub.authenticator_class = "daas-ldap"
c.DaasLDAPAuthenticator.server_uris = ["ldaps://ldap.example.org"]
c.DaasLDAPAuthenticator.bind_dn = "cn=daas-hub,ou=services,dc=example,dc=org"
c.DaasLDAPAuthenticator.bind_password_file = "/etc/daas-hub/bind-password"  # noqa: S105  a path
c.DaasLDAPAuthenticator.user_search_base = "ou=people,dc=example,dc=org"
c.DaasLDAPAuthenticator.group_search_base = "ou=groups,dc=example,dc=org"
c.DaasLDAPAuthenticator.allowed_groups = {"researchers", "students"}
c.DaasLDAPAuthenticator.admin_groups = {"operators"}

# What people choose from.
c.DaasSpawner.profile_list = [
    {
        "display_name": "Basic",
        "slug": "basic",
        "default": True,
        "description": "1 core, 1 GiB. Stopped when idle for an hour.",
        "resources": {"cpu_limit": 1, "mem_limit": "1G"},
    },
    {
        "display_name": "Large",
        "slug": "large",
        "allowed_groups": ["researchers"],
        "resources": {"cpu_limit": 4, "mem_limit": "8G"},
    },
]

# What idles is stopped; the first rule that matches counts.
c.Culler.rules = [
    {"name": "Basic", "profiles": ["basic"], "idle_after_s": 3600},
    {"name": "Everything else", "idle_after_s": 8 * 3600},
]

# The state of record: back it up. PostgreSQL: "postgresql+psycopg://daas@/daas".
c.DaasHub.ledger_url = "sqlite:////var/lib/daas-hub/ledger.sqlite"

# ---------------------------------------------------------------- leave this

configure(c)
