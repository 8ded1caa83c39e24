//! See [`netflume_fuzz::cilium::api`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::cilium::api(data));
