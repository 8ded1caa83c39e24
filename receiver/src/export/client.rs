//! The OTLP gRPC client.
