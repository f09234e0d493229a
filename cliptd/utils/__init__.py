"""Small pieces that every other room uses."""
