//! Real sockets through the running kernel: what our programs say, against what the test itself did.

#![allow(clippy::unwrap_used, reason = "a test: a panic is how it fails")]

mod support;
mod tcp;
mod udp;
