"""Side-by-side figures: ours and what a user would do instead, in one run, as ratios."""
