//! A table that changes while it is written, in slices, replaces the earlier file as a whole, and has each entry once that
//! was there all the time.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join("nlring-fuzz-table");
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
});

fuzz_target!(|bytes: &[u8]| nlring_cli::fuzzing::table(bytes, &DIRECTORY));
