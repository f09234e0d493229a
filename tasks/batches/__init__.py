"""Make batches of tensors of a task's examples."""
