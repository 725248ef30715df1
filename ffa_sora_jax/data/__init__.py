"""From prepared data sets and reports to batches."""
