"""What the billed lines pay for, as analysts read it."""
