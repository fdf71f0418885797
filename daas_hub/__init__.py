"""daas_hub: JupyterHub as data analysis as a service."""

__version__ = "0.1.0.dev0"
