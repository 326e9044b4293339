"""What we keep in Postgres, and why. Nothing here speaks HTTP or knows Dagster."""
