"""Ways to sign in, as JupyterHub authenticators."""
