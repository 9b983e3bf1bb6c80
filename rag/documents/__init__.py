"""file -> Document -> [Node]: reading files in a process of their own, and splitting."""
