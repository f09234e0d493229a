"""The adapter: hooks that read a student's token states and leave the student as it is."""
