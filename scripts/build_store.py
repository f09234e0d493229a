"""Let a teacher look at a task's training set once and keep what it saw."""

from tasks.commands.build_store import main

if __name__ == "__main__":
    main()
