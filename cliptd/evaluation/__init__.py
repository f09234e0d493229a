"""Zero-shot classification, retrieval and linear probes of dual encoders."""
