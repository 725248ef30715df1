"""TFDS builders of the datasets of this project, and the verb that runs them."""
