//! Set-up and test runner.
fn main() {}
