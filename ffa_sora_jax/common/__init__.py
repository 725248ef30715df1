"""Types, trees, names, meshes and checkpoints; knows nothing of models or data."""
