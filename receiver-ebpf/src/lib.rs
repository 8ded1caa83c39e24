//! Record layouts.
#![no_std]
