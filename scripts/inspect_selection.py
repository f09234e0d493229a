"""Write an HTML page of a few training instances: image, words by score, what is kept, weights, probabilities."""

from tasks.commands.inspect_selection import main

if __name__ == "__main__":
    main()
