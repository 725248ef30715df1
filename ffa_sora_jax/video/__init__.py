"""Host side video: files, contact sheets, standard clips, quality; numpy and OpenCV only."""
