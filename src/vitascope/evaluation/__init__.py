"""One protocol a task: a folder of results and a folder of truth -> numbers."""
