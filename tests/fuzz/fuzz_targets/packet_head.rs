//! See [`netflume_fuzz::packet_head`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::packet_head(data));
