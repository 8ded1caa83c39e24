//! See [`netflume_fuzz::cilium::flow`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::cilium::flow(data));
