"""question -> sources + stream: prompts, synthesis, query engine, chat engine."""
