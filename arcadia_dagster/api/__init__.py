"""The read API: HTTP in front of the ledger, outermost like Dagster. Nothing below it knows FastAPI."""
