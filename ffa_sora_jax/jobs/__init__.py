"""The verbs of the command line: resumable work over tables, runs and folders."""
