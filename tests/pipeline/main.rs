//! Everything behind the sources, against a Collector inside the test.

mod answers;
mod delivery;
mod harness;
mod lines;
mod transport;
