"""A report to look at: the ledger's money as one HTML page with pictures. Reads the analysts' views; knows no Dagster and no HTTP."""
