"""CBP+VLP: when each action starts and ends, from the tags of whole videos (CVPR 2023)."""
