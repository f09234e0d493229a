"""The adapter: hooks that read a student's token states, and the student back as it was."""
