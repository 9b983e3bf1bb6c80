"""question -> sources + stream: the prompt, the engine, its events."""
