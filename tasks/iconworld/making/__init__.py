"""The training of iconworld's shipped models."""
