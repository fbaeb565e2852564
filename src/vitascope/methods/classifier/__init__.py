"""Recognition: a classifier over the encoder of masked pre-training, fine-tuned whole or at its head alone."""
