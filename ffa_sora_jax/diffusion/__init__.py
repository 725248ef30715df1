"""Schedules, objectives and samplers over any denoise function."""
