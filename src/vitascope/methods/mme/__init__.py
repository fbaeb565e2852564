"""Masked Motion Encoding (Sun et al., CVPR 2023), and its pixel baseline VideoMAE."""
