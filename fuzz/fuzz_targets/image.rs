//! Images with any bytes: whatever is in there, reading ends and does not panic.
#![no_main]

#[path = "../image_reader.rs"]
mod image_reader;

libfuzzer_sys::fuzz_target!(|data: &[u8]| image_reader::exercise(data));
