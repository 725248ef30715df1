"""Runs as Python files; nothing of the package is imported here."""
