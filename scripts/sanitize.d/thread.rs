//! Two threads write one number without an order between them, so that ThreadSanitizer must report it.

static mut NUMBER: u64 = 0;

fn write(value: u64) {
    // SAFETY: none, on purpose.
    unsafe { (&raw mut NUMBER).write_volatile(value) };
}

fn main() {
    let other = std::thread::spawn(|| write(1));
    write(2);
    other.join().expect("no panic");
}
