//! Shell completions and man pages, made from the command line's own description. Only builds with the feature
//! `generate` have these two commands, so the files describe a build without it.

mod page;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use nlring_print::text::shown;

use crate::args::{Arguments, Generate};
use crate::outcome::{self, Failure, Outcome};

pub fn run(command: &Generate) -> Outcome {
    match command {
        Generate::Completions { shell } => print_completions(*shell)?,
        Generate::Man { directory } => write_pages(directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "nlring", &mut script);
    outcome::report(script)
}

fn write_pages(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory)
        .map_err(|error| Failure::Other(format!("make {}: {error}", shown(directory))))?;
    for page in page::all(Arguments::command()) {
        let path = directory.join(&page.file_name);
        fs::write(&path, page.text)
            .map_err(|error| Failure::Other(format!("write {}: {error}", shown(&path))))?;
    }
    Ok(())
}
