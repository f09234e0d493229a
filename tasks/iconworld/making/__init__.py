"""How the shipped models of iconworld are trained."""
