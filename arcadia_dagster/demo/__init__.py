"""A simulated DigitalOcean account, so that everything runs without a token. Knows nothing of the project."""
