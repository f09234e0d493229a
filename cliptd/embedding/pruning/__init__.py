"""Learned masks over a dual encoder, and the smaller model that they leave."""
