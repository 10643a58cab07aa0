"""What the server says of itself: logs, metrics, and traces where somebody collects them.

`telemetry.traces` is imported where OTEL_EXPORTER_OTLP_ENDPOINT is set, and never else: it brings OpenTelemetry's SDK.
"""

from __future__ import annotations

from legato.telemetry.logs import configure_logs

__all__ = ["configure_logs"]
