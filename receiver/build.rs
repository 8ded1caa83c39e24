//! Makes what the sources include: the Hubble messages and the kernel programs.

#[path = "build/kernel.rs"]
mod kernel;
#[path = "build/proto.rs"]
mod proto;

fn main() -> anyhow::Result<()> {
    proto::compile()?;
    kernel::compile()
}
