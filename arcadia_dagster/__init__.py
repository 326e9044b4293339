"""A ledger of a DigitalOcean account in Postgres, kept by Dagster."""
