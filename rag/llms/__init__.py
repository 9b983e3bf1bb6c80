"""[ChatMessage] -> stream of text: one small protocol, one file for each provider."""
