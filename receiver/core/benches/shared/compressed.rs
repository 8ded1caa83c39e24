//! What a request comes down to.

use std::io::Write as _;

/// Bytes after gzip.
pub(crate) fn gzip(body: &[u8], level: u32) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(body).expect("memory takes it");
    encoder.finish().expect("memory takes it").len()
}

/// Bytes after zstd.
pub(crate) fn zstd(body: &[u8], level: i32) -> usize {
    zstd::bulk::compress(body, level)
        .expect("memory takes it")
        .len()
}
