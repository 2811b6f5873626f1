//! Man pages and shell completions, made from the command line's own description. Only builds with the feature
//! `generate` have these two commands, so the files describe a build without it.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Arguments;
use crate::failure::{Failure, Result};

/// The commands that only such builds have.
const OWN: [&str; 2] = ["man", "completions"];

/// Prints the completions of a shell.
pub fn print_completions(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut described(), "nlringd", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|error| Failure::Other(format!("write to standard output: {error}")))
}

/// Writes nlringd.1 and a page for each command into a directory.
pub fn write_pages(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| Failure::of_file("create", directory, &error))?;
    let mut nlringd = described();
    nlringd.build();
    let commands: Vec<Command> = nlringd.get_subcommands().cloned().collect();
    for command in std::iter::once(nlringd).chain(commands) {
        let name = match command.get_name() {
            "nlringd" => "nlringd".to_owned(),
            command => format!("nlringd-{command}"),
        };
        let path = directory.join(format!("{name}.1"));
        let mut page = Vec::new();
        let man = Man::new(command.name(name)).manual("nlring");
        man.render(&mut page)
            .and_then(|()| fs::write(&path, page))
            .map_err(|error| Failure::of_file("write", &path, &error))?;
    }
    Ok(())
}

/// The command line without the commands of this module.
fn described() -> Command {
    let all = Arguments::command().disable_help_subcommand(true);
    let mut described = Command::new("nlringd").disable_help_subcommand(true);
    if let Some(about) = all.get_about() {
        described = described.about(about.clone());
    }
    let commands = all.get_subcommands().cloned();
    described
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(commands.filter(|command| !OWN.contains(&command.get_name())))
}
