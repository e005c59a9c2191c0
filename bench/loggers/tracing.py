"""Tracing: a metric is a span or event with attributes, a row is a span with prompt and answer."""

import logging
from typing import Any

from loggers.base import METRIC, ROW, Logger, Setting

__all__ = ["Langfuse", "OpenTelemetry"]


class OpenTelemetry(Logger):
    """A span, begun and ended; the batch processor's exporter takes no time, as it throws away what it is given."""

    durability = "in memory: lost with the process"
    overload = "drops above 2,048 spans"
    needs = "opentelemetry.sdk"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        class Nowhere(SpanExporter):
            def export(self, _: Any) -> SpanExportResult:
                return SpanExportResult.SUCCESS

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self.provider = TracerProvider()
        self.provider.add_span_processor(BatchSpanProcessor(Nowhere()))
        self.tracer = self.provider.get_tracer("peers")

    def metric(self, step: int) -> Any:
        """Log a metric."""
        key, value = METRIC
        self.tracer.start_span("metric", attributes={"key": key, "value": value, "step": step}).end()

    def row(self, _: int) -> Any:
        """Log a row."""
        self.tracer.start_span("chat", attributes=ROW).end()

    def settle(self) -> None:
        """Export it."""
        self.provider.force_flush()


class Langfuse(Logger):
    """Its client, with the address of a server that does not answer."""

    durability = "in memory: lost with the process, and here in any case"
    overload = "drops"
    share = 0.1
    needs = "langfuse"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        import langfuse

        logging.disable(logging.CRITICAL)
        self.client = langfuse.Langfuse(public_key="pk-peers", secret_key="sk-peers", base_url="http://127.0.0.1:9")

    def metric(self, step: int) -> Any:
        """Log a metric."""
        key, value = METRIC
        self.client.create_event(name=key, metadata={"value": value, "step": step})

    def row(self, _: int) -> Any:
        """Log a row."""
        rest = {"latency_ms": ROW["latency_ms"], "tokens": ROW["tokens"]}
        generation = self.client.start_observation(
            name="chat", as_type="generation", input=ROW["prompt"], output=ROW["output"], metadata=rest
        )
        generation.end()
