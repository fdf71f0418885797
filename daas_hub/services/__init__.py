"""Processes beside the hub: culler, reconciler, console."""
