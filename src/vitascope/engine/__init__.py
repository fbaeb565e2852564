"""The training and extraction loops and what they need."""
