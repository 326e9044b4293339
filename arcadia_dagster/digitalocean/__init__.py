"""The provider, as Python values. Nothing here knows a database or Dagster."""
