//! Recorded source bytes: what `netflume record` writes and `netflume replay` reads.
//!
//! A file is a header and frames, all integers little-endian:
//!
//! | bytes | header field |
//! | --- | --- |
//! | 8 | `NETFLUME` |
//! | 4 | version of this format, [`VERSION`] |
//!
//! | bytes | frame field |
//! | --- | --- |
//! | 2 | kind, the number of a [`BatchKind`] |
//! | 2 | zero |
//! | 4 | length of the records in bytes, at most [`FRAME_BYTES_MAX`] |
//! | 8 | wall clock at the read, nanoseconds since 1970 |
//! | 8 | nanoseconds since boot at the read |
//! | length | the records |

use std::io::{self, Read, Write};

use crate::model::batch::{Batch, BatchKind};

/// The format that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// No source makes larger batches; a longer length in a file is an error, never an allocation.
pub const FRAME_BYTES_MAX: u32 = 64 << 20;

const MAGIC: &[u8; 8] = b"NETFLUME";
const HEADER_BYTES: usize = 12;
const FRAME_HEADER_BYTES: usize = 24;

/// Why a recorded file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is not ours.
    #[error(
        "recorded file: it begins with {found:02x?}, a recording of netflume begins with \"NETFLUME\""
    )]
    NotARecording {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// The file ends inside its header: the recording was cut off at its very beginning, or never begun.
    #[error(
        "recorded file: it ends after {found} bytes, inside the header of {HEADER_BYTES}: the recording was cut off"
    )]
    HeaderCutOff {
        /// Bytes in the file.
        found: usize,
    },
    /// The file is of another version.
    #[error("recorded file: format version {found}, this program reads version {VERSION}")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// A frame longer than any source makes.
    #[error(
        "recorded file: byte {offset}: frame of {found} bytes, at most {FRAME_BYTES_MAX} are allowed"
    )]
    FrameLength {
        /// Where the frame begins.
        offset: u64,
        /// The length in the file.
        found: u32,
    },
    /// The file ends inside a frame: the recording was cut off. All frames before it were read.
    #[error("recorded file: byte {offset}: the file ends inside a frame")]
    CutOff {
        /// Where the frame begins.
        offset: u64,
    },
    /// The operating system said no.
    #[error("recorded file")]
    Io(#[from] io::Error),
}

/// Writes batches to a file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Appends one batch.
    ///
    /// # Errors
    /// Those of the writer; [`io::ErrorKind::InvalidInput`] for a batch over [`FRAME_BYTES_MAX`].
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let length = u32::try_from(batch.bytes.len())
            .ok()
            .filter(|n| *n <= FRAME_BYTES_MAX)
            .ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "batch too large for a recorded file",
                )
            })?;
        let mut header = [0u8; FRAME_HEADER_BYTES];
        header[0..2].copy_from_slice(&batch.kind.0.to_le_bytes());
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8..16].copy_from_slice(&batch.unix_ns.to_le_bytes());
        header[16..24].copy_from_slice(&batch.boot_ns.to_le_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(&batch.bytes)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads the batches of a file, one after the other; ends after the first error.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    offset: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ReplayError::NotARecording`], [`ReplayError::HeaderCutOff`], [`ReplayError::Version`] or those of the reader.
    pub fn new(mut input: R) -> Result<Self, ReplayError> {
        let mut header = [0u8; HEADER_BYTES];
        let read = read_up_to(&mut input, &mut header)?;
        let (magic, version) = header.split_at(MAGIC.len());
        let found = magic.get(..read).unwrap_or(magic);
        if !MAGIC.starts_with(found) {
            let found = found.to_vec();
            return Err(ReplayError::NotARecording { found });
        }
        if read < HEADER_BYTES {
            return Err(ReplayError::HeaderCutOff { found: read });
        }
        let found = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
        if found != VERSION {
            return Err(ReplayError::Version { found });
        }
        Ok(Self {
            input,
            offset: HEADER_BYTES as u64,
            ended: false,
        })
    }

    fn frame(&mut self) -> Result<Option<Batch>, ReplayError> {
        let offset = self.offset;
        let mut header = [0u8; FRAME_HEADER_BYTES];
        match read_up_to(&mut self.input, &mut header)? {
            0 => return Ok(None),
            FRAME_HEADER_BYTES => {}
            _ => return Err(ReplayError::CutOff { offset }),
        }
        let [k0, k1, _, _, l0, l1, l2, l3, times @ ..] = header;
        let kind = BatchKind(u16::from_le_bytes([k0, k1]));
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > FRAME_BYTES_MAX {
            return Err(ReplayError::FrameLength {
                offset,
                found: length,
            });
        }
        // Grows with what is really there: a length alone allocates nothing.
        let mut bytes = Vec::new();
        self.input
            .by_ref()
            .take(u64::from(length))
            .read_to_end(&mut bytes)?;
        if bytes.len() < length as usize {
            return Err(ReplayError::CutOff { offset });
        }
        self.offset += FRAME_HEADER_BYTES as u64 + u64::from(length);
        let [unix @ .., _, _, _, _, _, _, _, _] = times;
        let [_, _, _, _, _, _, _, _, boot @ ..] = times;
        Ok(Some(Batch {
            kind,
            unix_ns: u64::from_le_bytes(unix),
            boot_ns: u64::from_le_bytes(boot),
            bytes,
        }))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Batch, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.frame().transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        frame
    }
}

/// Reads until the buffer is full or the input ends.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> (Vec<Batch>, Vec<u8>) {
        let batches = vec![
            Batch {
                kind: BatchKind::KERNEL,
                unix_ns: 5,
                boot_ns: 3,
                bytes: vec![1, 2, 3],
            },
            Batch {
                kind: BatchKind::CILIUM_MONITOR,
                unix_ns: 6,
                boot_ns: 4,
                bytes: vec![9; 100],
            },
            Batch {
                kind: BatchKind::INTERVAL,
                unix_ns: 7,
                boot_ns: 5,
                bytes: Vec::new(),
            },
        ];
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file).unwrap();
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        (batches, file)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let (batches, file) = recording();
        let read: Vec<_> = Reader::new(&file[..])
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(read, batches);
    }

    #[test]
    fn every_prefix_gives_the_whole_frames_and_one_error() {
        let (batches, file) = recording();
        for length in 0..file.len() {
            let reader = match Reader::new(&file[..length]) {
                Ok(reader) => reader,
                Err(error) => {
                    assert!(length < 12, "a header of {length} bytes was refused");
                    let expected = format!(
                        "recorded file: it ends after {length} bytes, inside the header of 12: the recording was cut off"
                    );
                    assert_eq!(error.to_string(), expected);
                    continue;
                }
            };
            let results: Vec<_> = reader.collect();
            let good = results.iter().filter(|r| r.is_ok()).count();
            assert!(good < batches.len());
            for (result, batch) in results.iter().zip(&batches).take(good) {
                assert_eq!(result.as_ref().unwrap(), batch);
            }
            assert!(results.len() - good <= 1);
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_allocated() {
        let (_, mut file) = recording();
        file[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        let first = Reader::new(&file[..]).unwrap().next().unwrap();
        assert!(
            matches!(
                first,
                Err(ReplayError::FrameLength {
                    offset: 12,
                    found: u32::MAX
                })
            ),
            "{first:?}"
        );
    }

    #[test]
    fn another_file_is_named_for_what_it_is() {
        let error = Reader::new(&b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00"[..]).unwrap_err();
        assert!(
            error.to_string().contains("begins with [7f, 45, 4c, 46"),
            "{error}"
        );
        let error = Reader::new(&b"NETFLOW"[..]).unwrap_err();
        assert!(
            matches!(error, ReplayError::NotARecording { .. }),
            "{error}"
        );
    }
}
