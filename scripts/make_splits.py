"""Write which training items each low-shot split labels, with the hash of their ids."""

from tasks.commands.make_splits import main

if __name__ == "__main__":
    main()
