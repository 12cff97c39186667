#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| taskqueue_mesh::fuzzing::mesh(bytes));
