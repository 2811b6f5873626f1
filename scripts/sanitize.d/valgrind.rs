//! Decides by a byte that was never written, so that valgrind must report it.

use std::mem::MaybeUninit;

fn main() {
    let unwritten: Box<MaybeUninit<u8>> = Box::new_uninit();
    // SAFETY: none, on purpose.
    let byte = unsafe { unwritten.as_ptr().read_volatile() };
    if byte > 1 {
        println!("more than one");
    }
}
