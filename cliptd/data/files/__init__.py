"""Large files as tables with random access: JSON lines, JSON objects, texts."""
