//! Real sockets through the running kernel: what our programs say, against what the test itself did.

mod support;
mod tcp;
