//! The protobuf wire format, written directly.
