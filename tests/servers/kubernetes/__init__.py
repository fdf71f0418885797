"""A real Kubernetes cluster for the tests, of the programs that production runs: see docs/reference/tests.md."""
