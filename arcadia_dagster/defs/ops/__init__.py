"""What keeps the rest running for years: retention, and alerts to people."""
