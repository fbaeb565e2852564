"""Arrays -> numbers: what a result is worth against the truth."""
