"""Run the low-shot protocol of a task: methods × numbers of labels × seeds, in and out of domain, in one report."""

from tasks.commands.evaluate_low_shot import main

if __name__ == "__main__":
    main()
