"""Grids of methods, numbers of labels and seeds, and their report."""
