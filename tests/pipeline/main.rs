//! Everything behind the sources, against a Collector inside the test.

mod answers;
mod delivery;
mod exchanges;
mod harness;
mod lines;
mod names;
mod names_over_time;
mod own_receiver;
mod program;
mod reload;
mod replay;
mod transport;
