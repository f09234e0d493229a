"""Visual Commonsense Reasoning."""
