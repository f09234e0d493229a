"""Iconworld's files in the official formats."""
