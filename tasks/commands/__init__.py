"""The user's commands, one a file; `scripts/NAME.py`, `python -m tasks.commands.NAME` and `cliptd NAME` are one."""
