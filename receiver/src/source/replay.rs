//! Recorded source bytes: the file format, its writer and its reader.
