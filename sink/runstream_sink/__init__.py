"""The sink: consumes the event stream and materializes experiments, runs, CSV tables and artifacts."""
