//! The arguments of `nlring completions` and `nlring man`, for those who package nlring.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Print a shell's completions
    Completions {
        /// The shell that they are for
        shell: Shell,
    },
    /// Write the man pages: one for nlring and one for each command
    Man {
        /// Where to write them
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
}
