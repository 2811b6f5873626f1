//! A Python with packages of PyPI.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nlring_testing::{cannot_run, run};

/// A Python with pyarrow, DuckDB and nats-py, made once.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(make_python).clone()
}

fn make_python() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers-venv");
    let python = venv.join("bin/python");
    let place = venv.display().to_string();
    let has_all = || {
        let output = run(
            &python.display().to_string(),
            &["-c", "import duckdb, nats, pyarrow"],
        );
        output.is_some_and(|output| output.status.success())
    };
    if !has_all() {
        let made = run("python3", &["-m", "venv", &place]);
        if !made.is_some_and(|output| output.status.success()) {
            cannot_run("python3 cannot make a virtual environment".to_owned());
        }
        let pip = format!("{place}/bin/pip");
        let packages = [
            "install",
            "--quiet",
            "--timeout",
            "10",
            "pyarrow",
            "duckdb",
            "nats-py",
        ];
        _ = run(&pip, &packages);
    }
    if !has_all() {
        cannot_run("pyarrow, duckdb and nats-py cannot be had from PyPI".to_owned());
    }
    python
}
