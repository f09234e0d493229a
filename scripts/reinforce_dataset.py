"""Reinforce a dataset once, for many small models: drawn crops, synthetic captions, teachers' embeddings of each."""

from tasks.commands.reinforce_dataset import main

if __name__ == "__main__":
    main()
