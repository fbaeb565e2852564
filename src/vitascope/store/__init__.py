"""The library on disk: catalogue, features and vectors, runs, checkpoints, reports."""
