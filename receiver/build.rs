//! Makes what the sources include.

#[path = "build/proto.rs"]
mod proto;

fn main() -> anyhow::Result<()> {
    proto::compile()
}
