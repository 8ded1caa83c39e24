//! A request to what is sent: compressed once, when it has found room, so that what waits is small and no retry compresses again.

use std::io::Write as _;

use bytes::Bytes;

use crate::export::options::Compression;
use netflume_core::model::request::{Request, Signal};

/// gzip's fastest level: on log records twice the speed of its default for a tenth more bytes.
const GZIP_LEVEL: u32 = 1;
/// zstd's fastest ordinary level.
const ZSTD_LEVEL: i32 = 1;

/// One request, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// Which service it goes to.
    pub(crate) signal: Signal,
    /// Log records, data points or spans in it.
    pub(crate) items: u64,
    /// The message as it stands in its gRPC frame.
    pub(crate) payload: Bytes,
    /// What the payload is compressed with.
    pub(crate) compression: Compression,
}

impl Packed {
    /// Compresses a request. Takes processor time, about 3 ms a MiB with gzip, and never waits.
    pub(crate) fn new(request: Request, compression: Compression) -> Self {
        let compressed = match compression {
            Compression::None => None,
            Compression::Gzip => gzip(&request.body),
            Compression::Zstd => zstd::bulk::compress(&request.body, ZSTD_LEVEL).ok(),
        };
        Self {
            signal: request.signal,
            items: request.items,
            // Compressing into memory does not fail; if it did, the request still goes out as it is.
            compression: if compressed.is_some() {
                compression
            } else {
                Compression::None
            },
            payload: compressed.map_or(request.body, Bytes::from),
        }
    }

    /// The request as it came in.
    pub(crate) fn unpack(&self) -> std::io::Result<Request> {
        let body = match self.compression {
            Compression::None => self.payload.clone(),
            Compression::Gzip => {
                let mut out = Vec::new();
                std::io::copy(&mut flate2::read::GzDecoder::new(&*self.payload), &mut out)?;
                out.into()
            }
            Compression::Zstd => zstd::decode_all(&*self.payload)?.into(),
        };
        Ok(Request {
            signal: self.signal,
            body,
            items: self.items,
        })
    }

    /// The frame's five bytes before the payload: compressed or not, length.
    pub(crate) fn frame_header(&self) -> [u8; 5] {
        let [a, b, c, d] = u32::try_from(self.payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        [u8::from(self.compression != Compression::None), a, b, c, d]
    }

    /// `grpc-encoding`, if it is compressed.
    pub(crate) fn encoding(&self) -> Option<&'static str> {
        match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    // Log records come down to less than a tenth.
    let out = Vec::with_capacity(body.len() / 8 + 64);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back_whole() {
        let request = Request {
            signal: Signal::Logs,
            body: Bytes::from("netflow ".repeat(10_000)),
            items: 7,
        };
        for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
            let packed = Packed::new(request.clone(), compression);
            assert_eq!(packed.compression, compression);
            assert_eq!(packed.unpack().unwrap(), request);
            let small = packed.payload.len() < 1_000;
            assert_eq!(small, compression != Compression::None);
            let header = packed.frame_header();
            assert_eq!(header[0] == 1, small);
            assert_eq!(
                header[1..],
                u32::try_from(packed.payload.len()).unwrap().to_be_bytes()
            );
        }
    }
}
