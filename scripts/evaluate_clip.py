"""Measure an open_clip or transformers CLIP: zero-shot classification, retrieval, linear probes."""

from tasks.commands.evaluate_clip import main

if __name__ == "__main__":
    main()
