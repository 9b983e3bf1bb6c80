"""[Node] <-> store -> [NodeWithScore]: embedding, Chroma, ingestion, retrieval."""
