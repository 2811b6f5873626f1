//! The man pages: what clap knows, and sections that it does not know.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

/// A page, in the language of groff's macros man(7).
pub struct Page {
    pub file_name: String,
    pub text: String,
}

/// Lines of help with this indent are commands to copy.
const COMMAND_INDENT: &str = "    ";
/// Lines of help with this indent are rows of a table, whose columns two blanks separate.
const ROW_INDENT: &str = "  ";

/// The page of nlring, then one for each of its commands.
pub fn all(mut nlring: Command) -> Vec<Page> {
    nlring = nlring.disable_help_subcommand(true);
    nlring.build();
    let commands: Vec<Command> = nlring.get_subcommands().cloned().collect();
    let names: Vec<String> = std::iter::once("nlring".to_owned())
        .chain(commands.iter().map(page_name))
        .collect();
    std::iter::once(nlring)
        .chain(commands)
        .map(|command| page(&command, &names))
        .collect()
}

fn page_name(command: &Command) -> String {
    format!("nlring-{}", command.get_name())
}

fn page(command: &Command, names: &[String]) -> Page {
    let is_top = command.get_name() == "nlring";
    let name = if is_top {
        "nlring".to_owned()
    } else {
        page_name(command)
    };
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section("1")
        .source(concat!("nlring ", env!("CARGO_PKG_VERSION")))
        .manual("nlring");
    let mut text = Vec::new();
    // A vector takes all that is written.
    _ = man.render_title(&mut text);
    let mut roff = Roff::new();
    let about = about(command);
    roff.control("nh", []) // names of options and settings stay whole
        .control("SH", ["NAME"])
        .text([roman(format!("{name} - {}", uncapitalised(&about)))]);
    roff.control("SH", ["SYNOPSIS"])
        .text([roman(usage(command))]);
    _ = roff.to_writer(&mut text);
    if is_top {
        _ = commands(command).to_writer(&mut text);
    }
    _ = man.render_options_section(&mut text);
    let help = command.get_after_help().map(ToString::to_string);
    if let Some(help) = help.filter(|_| !is_top) {
        _ = notes(&help).to_writer(&mut text);
    }
    _ = exit_status(command.get_name()).to_writer(&mut text);
    _ = see_also(&name, names, others(command.get_name())).to_writer(&mut text);
    Page {
        file_name: format!("{name}.1"),
        text: ascii(&String::from_utf8_lossy(&text)),
    }
}

/// The same page in ASCII, because groff by itself reads Latin-1: other characters become `\[uXXXX]` (groff_char(7)).
fn ascii(page: &str) -> String {
    let escaped = |character: char| {
        if character.is_ascii() {
            character.to_string()
        } else {
            format!(r"\[u{:04X}]", u32::from(character))
        }
    };
    page.chars().map(escaped).collect()
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string);
    about.unwrap_or_default()
}

/// The line that --help calls the usage, such as `nlring flood [OPTIONS] <SOURCE>`.
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").trim().to_owned()
}

fn commands(nlring: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in nlring.get_subcommands() {
        let about = about(command);
        roff.control("TP", [])
            .text([bold(command.get_name())])
            .text([roman(format!("{about}. See {}(1).", page_name(command)))]);
    }
    roff
}

/// The text that follows the options in --help: prose in lines that are broken by hand, commands to copy, and tables.
fn notes(help: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["NOTES"]);
    let (mut is_command, mut is_row) = (false, false);
    for line in help.lines() {
        let was_row = std::mem::replace(&mut is_row, line.starts_with(ROW_INDENT));
        if was_row && !is_row && !line.is_empty() {
            roff.control("PP", []);
        }
        let was_command = std::mem::replace(&mut is_command, line.starts_with(COMMAND_INDENT));
        if was_command && !is_command {
            roff.control("fi", []).control("RE", []).control("PP", []);
        }
        if is_command && !was_command {
            roff.control("PP", [])
                .control("RS", ["4"])
                .control("nf", []);
        }
        match line.strip_prefix(ROW_INDENT).filter(|_| !is_command) {
            Some(row) => {
                let (term, meaning) = row.split_once("  ").unwrap_or((row, ""));
                roff.control("TP", ["10"])
                    .text([bold(term)])
                    .text([roman(meaning.trim_start())]);
            }
            None if line.is_empty() => {
                roff.control("PP", []);
            }
            None => {
                roff.text([roman(line.trim())]);
            }
        }
    }
    if is_command {
        roff.control("fi", []).control("RE", []);
    }
    roff
}

fn exit_status(command: &str) -> Roff {
    let mut statuses = match command {
        "nlring" => vec![("0", "Success."), ("1", "The command failed.")],
        "conntrack" | "route" => vec![
            (
                "0",
                "The collector ended as asked: by a signal, --count, --duration or --once, or because the reader of standard \
                 output has gone.",
            ),
            ("1", "It could not receive or write events."),
        ],
        "demo" => vec![
            ("0", "All checks are OK."),
            ("1", "A check failed, or the demo could not run."),
        ],
        "flood" => vec![
            (
                "0",
                "The events were made, and what remained of them was removed.",
            ),
            ("1", "They were not."),
        ],
        "latency" => vec![
            ("0", "Every event is accounted for."),
            ("1", "Some are not, or the measurement failed."),
        ],
        "doctor" => vec![
            (
                "0",
                "Conntrack and route events can be received here, perhaps with limits.",
            ),
            ("1", "Something makes that impossible."),
        ],
        _ => vec![("0", "Success."), ("1", "Failure.")],
    };
    statuses.push(("2", "The command line is wrong."));
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in statuses {
        roff.control("TP", ["4"])
            .text([bold(status)])
            .text([roman(meaning)]);
    }
    roff
}

/// Pages of other packages about the same subject.
fn others(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "conntrack" => &[("conntrack", "8"), ("nft", "8"), ("netlink", "7")],
        "route" => &[("ip-monitor", "8"), ("ip-route", "8"), ("rtnetlink", "7")],
        "doctor" => &[("sysctl.d", "5"), ("nft", "8")],
        _ => &[("netlink", "7"), ("io_uring", "7")],
    }
}

fn see_also(own_name: &str, names: &[String], others: &[(&str, &str)]) -> Roff {
    let own = names
        .iter()
        .filter(|name| *name != own_name)
        .map(|name| (name.as_str(), "1"));
    let mut line: Vec<Inline> = Vec::new();
    for (name, section) in own.chain(others.iter().copied()) {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(name), roman(format!("({section})"))]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text(line);
    roff
}

/// A short description after a name begins small, unless it begins with a name itself.
fn uncapitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
