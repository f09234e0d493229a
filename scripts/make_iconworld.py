"""Write the embedded benchmark to a folder, in the tasks' official file formats."""

from tasks.commands.make_iconworld import main

if __name__ == "__main__":
    main()
