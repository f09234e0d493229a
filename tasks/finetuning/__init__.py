"""Fine-tune students on a task with each of several methods."""
