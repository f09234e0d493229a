"""The embedded benchmark: scenes of real icons in the three tasks' official formats."""
