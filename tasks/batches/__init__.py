"""Examples of a task to batches of tensors."""
