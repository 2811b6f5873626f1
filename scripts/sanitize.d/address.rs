//! Reads memory after it was freed, so that AddressSanitizer must report it.

fn main() {
    let freed = {
        let boxed = Box::new(1_u8);
        &raw const *boxed
    };
    // SAFETY: none, on purpose.
    println!("{}", unsafe { freed.read_volatile() });
}
