"""Models of transformers as the tasks' students."""
