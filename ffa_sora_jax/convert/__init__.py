"""Weights between this package and the PyTorch folders, both ways."""
