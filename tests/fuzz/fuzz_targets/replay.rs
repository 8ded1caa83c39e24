//! See [`netflume_fuzz::replay`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::replay(data));
