"""Dagster, thin: each asset asks the client, hands to the ledger and reports. Rules about data belong in `digitalocean/` and `ledger/`."""
