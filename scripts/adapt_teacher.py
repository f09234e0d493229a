"""Fine-tune a CLIP teacher contrastively on a task's own images and true texts; saves an open_clip folder."""

from tasks.commands.adapt_teacher import main

if __name__ == "__main__":
    main()
