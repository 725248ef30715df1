"""FFA exams of a hospital with their reports."""
