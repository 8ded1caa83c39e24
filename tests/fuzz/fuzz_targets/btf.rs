//! See [`netflume_fuzz::btf`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::btf(data));
