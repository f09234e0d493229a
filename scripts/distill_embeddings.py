"""Distil a dual encoder's embeddings into a smaller one; writes an open_clip folder, evaluated zero-shot as it goes."""

from tasks.commands.distill_embeddings import main

if __name__ == "__main__":
    main()
