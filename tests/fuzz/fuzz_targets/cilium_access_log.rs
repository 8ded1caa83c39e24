//! See [`netflume_fuzz::cilium::access_log`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::cilium::access_log(data));
