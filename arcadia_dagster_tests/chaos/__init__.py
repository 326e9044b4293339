"""Attacks on whole runs: a provider that misbehaves (`test_provider.py`), kills and lost databases (`test_crashes.py`), strikes in time
(`test_strikes.py`). After each, the ledger must be what it is where nothing happened. Tests of single functions do not belong here.
"""
