//! See [`netflume_fuzz::kernel_record`].
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| netflume_fuzz::kernel_record(data));
