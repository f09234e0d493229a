"""The runs of distill_embeddings.py: settings, data, training, and what came of it."""
