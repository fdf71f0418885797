"""``python -m daas_hub.cli``: the command ``daas-hub``."""

from __future__ import annotations

from . import main

main()
