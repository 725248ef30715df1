"""Whether generated clips give away who was in the training data."""
