//! What can be wrong with a configuration that can be read: a filter, a namespace, a directory.

use std::fs;
use std::path::{Path, PathBuf};

use nlring::Namespace;
use nlring::conntrack::Filter;
use rustix::fs::{Access, access};

use super::{Config, Servers};

/// The problems, each with its key. Empty: none was found.
pub fn problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    if !config.filter.trim().is_empty()
        && let Err(error) = config.filter.parse::<Filter>()
    {
        problems.push(format!("filter: {error}"));
    }
    for name in &config.namespaces {
        if let Err(error) = Namespace::from_name(name) {
            problems.push(format!("namespaces: {error}"));
        }
    }
    problems.extend(directory_problem(
        "spool.directory",
        &config.spool.directory,
    ));
    for files in &config.files {
        problems.extend(directory_problem("files.directory", &files.directory));
    }
    for nats in &config.nats {
        problems.extend(secrets_problems(
            &format!("{}.servers", nats.name),
            &nats.servers,
        ));
    }
    problems
}

/// Files that cannot be read. What they have is never shown.
pub fn secrets_problems(of: &str, servers: &Servers) -> Vec<String> {
    let unreadable = |(key, path): (&str, &PathBuf)| {
        let error = fs::read(path).err()?;
        let path = path.display();
        Some(format!(
            "{of}.{key}: {path}: {error}; name a file that nlringd may read"
        ))
    };
    servers.files().filter_map(unreadable).collect()
}

/// The problem if files cannot be created in this directory, or in the one in which it will be created.
fn directory_problem(key: &str, directory: &Path) -> Option<String> {
    let path = std::path::absolute(directory).ok()?;
    let existing = path.ancestors().find(|path| path.exists())?;
    let shown = existing.display();
    if !existing.is_dir() {
        return Some(format!(
            "{key}: {shown} is not a directory; name another one"
        ));
    }
    let error = access(existing, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!(
        "{key}: {shown} cannot be written: {error}; change its owner or mode, or name another directory"
    ))
}
