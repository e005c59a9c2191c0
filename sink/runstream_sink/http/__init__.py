"""The HTTP server inside the sink: the native API, MLflow's REST API, health and metrics."""
