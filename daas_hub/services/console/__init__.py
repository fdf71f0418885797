"""The pages and the REST interface at /services/daas/."""
