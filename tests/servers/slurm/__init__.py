"""A real SLURM cluster for tests: daemons, database, REST server and people, in namespaces of their own."""
