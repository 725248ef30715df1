"""The phantom dataset: procedural angiograms with reports and ground truth."""
