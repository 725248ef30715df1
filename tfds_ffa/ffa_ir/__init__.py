"""The public FFA-IR dataset: angiograms with English and Chinese reports."""
