//! The options about network namespaces.

use clap::{Args, ValueEnum};

/// The namespaces that a command examines. Without an option, the one that it runs in.
#[derive(Args, Clone, Debug, Default)]
pub struct NetnsArguments {
    /// Look at this network namespace: a name of ip netns, a process ID, or a path such as /proc/1/ns/net (needs
    /// CAP_SYS_ADMIN)
    #[arg(long, value_name = "NAME|PID")]
    pub netns: Option<String>,

    /// Look at all network namespaces: this one and those that ip netns lists, or with =processes also those that only
    /// processes are in; each line begins with [netns NAME]
    #[arg(
        long,
        value_name = "WHICH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "names",
        conflicts_with = "netns"
    )]
    pub all_netns: Option<AllNetns>,
}

/// What "all namespaces" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AllNetns {
    /// This one and those with a name in /run/netns
    Names,
    /// Also those that only processes are in
    Processes,
}
