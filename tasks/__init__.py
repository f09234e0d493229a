"""The four systems' task readers: official files, official metrics."""
