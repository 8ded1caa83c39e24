//! The Observer API as its clients see it: Hubble's own command line, and a plain gRPC client for what that cannot show.

mod client;
mod hubble;
mod relay;
mod run;
mod server;
mod services;
mod tls;
