//! Reads the kernel programs.
