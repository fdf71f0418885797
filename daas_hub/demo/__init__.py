"""The seeded directory, people and life of scripts/demo."""
