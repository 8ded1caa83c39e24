//! See [`netflume_fuzz::config`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::config(data));
