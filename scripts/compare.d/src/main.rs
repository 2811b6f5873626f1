//! Receives netlink events in one of several ways, until SIGINT or SIGTERM, and then prints how many there were:
//! `receivers WAY SOURCE BUFFER_BYTES`.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the bench's ways: sizes here are far from any limit"
)]

// The ways of the bench, so that both measure the same. Here a signal ends them.
#[allow(dead_code)]
#[path = "../../../benches/receive/memory.rs"]
mod memory;
#[allow(dead_code)]
#[path = "../../../benches/receive/multishot.rs"]
mod multishot;
mod ours;
mod rivals;
mod source;
#[path = "../../../benches/receive/syscalls.rs"]
mod syscalls;
mod tally;

use std::error::Error;
use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use nlring::Wait;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use source::Source;
use tally::Tally;

/// How long the gathering ways wait.
const DELAY: Duration = Duration::from_millis(1);
/// No event here is longer.
const BUFFER_BYTES: usize = 1024;

/// A way to receive.
#[allow(dead_code)]
trait Way {
    /// Waits for datagrams and takes them.
    fn turn(&mut self, tally: &mut Tally) -> io::Result<()>;

    fn finish(self: Box<Self>) -> io::Result<Rest> {
        unreachable!("a signal ends it")
    }
}

#[allow(dead_code)]
struct Rest {
    unread: u64,
    lost: u64,
}

fn way(name: &str, source: Source, buffer_bytes: usize) -> Result<Box<dyn Way>, Box<dyn Error>> {
    let open = || source.open(buffer_bytes);
    Ok(match name {
        "recv" => Box::new(syscalls::Recv::new(open()?)),
        "recvmmsg" => Box::new(syscalls::Recvmmsg::blocking(open()?)),
        "recvmmsg-paced" => Box::new(syscalls::Recvmmsg::paced(open()?)),
        "multishot" => Box::new(multishot::Multishot::recvmsg(
            open()?,
            multishot::Waking::Gathering,
        )?),
        "nlring" => Box::new(ours::Ours::new(open()?, Wait::Auto, ours::count)?),
        "nlring-prompt" => Box::new(ours::Ours::new(open()?, Wait::Prompt, ours::count)?),
        "nlring-batch" => Box::new(ours::Ours::new(open()?, Wait::Batch(DELAY), ours::count)?),
        "nlring-decode" => Box::new(ours::Ours::new(open()?, Wait::Auto, ours::decode)?),
        "neli" => Box::new(rivals::Neli::new(source, buffer_bytes)?),
        "netlink-sys" => Box::new(rivals::NetlinkSys::new(source, buffer_bytes)?),
        "nlink" => Box::new(rivals::Nlink::new(source, buffer_bytes)?),
        _ => return Err(format!("there is no way {name}").into()),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [name, source, buffer_bytes] = &arguments[..] else {
        return Err("usage: receivers WAY conntrack|route BUFFER_BYTES".into());
    };
    end_by_signal()?;
    let mut way = way(name, source.parse()?, buffer_bytes.parse()?)?;
    let mut tally = Tally::default();
    loop {
        match way.turn(&mut tally) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {} // by the signal that ends it
            result => result?,
        }
    }
}

/// Lets a thread end the process, because most ways block without a limit when nothing comes.
fn end_by_signal() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        signals.forever().next();
        println!("{}", tally::received());
        process::exit(0);
    });
    Ok(())
}
