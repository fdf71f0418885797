"""What JupyterHub calls to start, poll and stop a server: the flow, on one screen."""
