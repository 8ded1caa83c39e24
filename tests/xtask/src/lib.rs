//! What plain cargo cannot do: set-up of a fresh machine, test partners, other kernels. Used by `cargo xtask` and by the tests that need a partner.
#![allow(
    clippy::print_stdout,
    reason = "part of a command line program that talks to its terminal"
)]

pub mod cache;
pub mod partner;
pub mod run;
