"""The version, for every room. ``pyproject.toml`` says the same, and a test compares them."""

VERSION = "0.1.0.dev0"
