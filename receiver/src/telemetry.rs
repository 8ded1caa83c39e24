//! Our own state, through the OpenTelemetry SDK.
