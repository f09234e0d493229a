"""Make a small open_clip model out of a large one's weights, to be distilled from there; saves an open_clip folder."""

from tasks.commands.inherit_weights import main

if __name__ == "__main__":
    main()
