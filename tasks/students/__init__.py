"""The tasks' students, which are models of transformers."""
