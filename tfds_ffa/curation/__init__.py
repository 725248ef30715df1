"""From a folder of exams and a table of reports to curated clips: nothing lost silently."""
