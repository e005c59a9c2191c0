"""A Kafka topic as a source: positions that tell a recreated topic, artifact bytes out of chunks, the client."""
