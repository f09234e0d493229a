"""Select the visually grounded sentences of a large text file, for DIME-FM: those near to some of your images."""

from tasks.commands.select_sentences import main

if __name__ == "__main__":
    main()
