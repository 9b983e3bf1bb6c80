"""data folder -> a data folder in order, and copies of it: check, backup, restore."""
