"""Learned masks over a dual encoder, and the smaller model that remains after pruning."""
