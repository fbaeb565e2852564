"""Named data sets and folders to lists of Record, and synthetic worlds with exact truth."""
