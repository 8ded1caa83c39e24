//! netflume.
fn main() {}
