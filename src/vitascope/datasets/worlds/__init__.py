"""Synthetic video with exact truth: motion, textures, untrimmed stories and objects, deterministic by seed."""
