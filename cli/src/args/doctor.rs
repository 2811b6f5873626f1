//! The arguments of `nlring doctor`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = DOCTOR_HELP)]
pub struct DoctorArguments {
    /// Look at this network namespace: a name of ip netns, a process ID, or a path such as /proc/1/ns/net (needs
    /// CAP_SYS_ADMIN)
    #[arg(long, value_name = "NAME|PID")]
    pub netns: Option<String>,

    /// Write one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_HELP: &str = "\
Each check prints one line, which begins with its result:
  ok       as it should be
  note     nothing is wrong, but worth knowing
  limit    some events will be missing or lost
  fail     conntrack or route events cannot be received
  unknown  the check could not be made
Below it, after $, is a command for a root shell that fixes it here, and how to keep that after a restart. If no command
fixes it here, the text says what does.

Doctor changes no setting. To see whether flows are tracked, it listens for a moment, if it may, and sends a UDP datagram to
itself over the loopback device, over IPv4 and over IPv6. Other collectors see these flows begin and end. As with any
collector, the kernel may load its conntrack modules.

Exits with 0 if conntrack and route events can be received here, perhaps with limits, otherwise with 1.";
