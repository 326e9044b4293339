"""What keeps the rest running for years: retention."""
