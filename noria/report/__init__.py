"""The report of a run: one HTML file without anything from elsewhere, made of what the run left in its workspace."""
