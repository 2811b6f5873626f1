//! The results of the checks: as text for people, and as JSON.

use std::iter::once;

use nlring_print::json;
use nlring_print::text::escaped;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::write::fold::fold;

/// Before each line of advice.
const ADVICE_MARGIN: &str = "         ";

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Nothing is wrong, but it is worth knowing.
    Note,
    /// Some events will be missing or lost.
    Limit,
    /// Conntrack or route events cannot be received.
    Fail,
    /// The check could not be made.
    Unknown,
}

impl CheckState {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Limit => "limit",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// One check, with its result.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: CheckState,
    pub detail: String,
    /// A command for a root shell that works on this host.
    pub remedy: Option<String>,
    /// Sentences about the remedy, or about what to do if no command here helps.
    pub advice: Option<String>,
    /// The values that were read or tried, for programs.
    #[serde(flatten)]
    pub values: Map<String, Value>,
}

impl Check {
    pub fn new(name: &'static str, state: CheckState, detail: impl Into<String>) -> Self {
        Self {
            name,
            state,
            detail: detail.into(),
            remedy: None,
            advice: None,
            values: Map::new(),
        }
    }

    pub fn remedy(self, command: impl Into<String>) -> Self {
        Self {
            remedy: Some(command.into()),
            ..self
        }
    }

    /// Adds sentences.
    pub fn advice(self, sentences: impl Into<String>) -> Self {
        let sentences = sentences.into();
        Self {
            advice: Some(match self.advice {
                Some(advice) => format!("{advice} {sentences}"),
                None => sentences,
            }),
            ..self
        }
    }

    /// Adds a value, for programs.
    pub fn value(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }
}

#[derive(Debug, Serialize)]
pub struct Diagnosis {
    pub checks: Vec<Check>,
}

impl Diagnosis {
    pub fn is_impossible(&self) -> bool {
        self.has(CheckState::Fail)
    }

    fn has(&self, state: CheckState) -> bool {
        self.checks.iter().any(|check| check.state == state)
    }

    pub fn json(&self) -> Vec<u8> {
        // Strings, numbers and lists of them cannot fail.
        let mut out = json::to_string_pretty(self).unwrap_or_default();
        out.push('\n');
        out.into_bytes()
    }

    /// A line for each check, and below it the remedy and the advice. If `columns` is given, long lines are folded,
    /// except commands.
    pub fn text(&self, columns: Option<usize>) -> Vec<u8> {
        let widest = self.checks.iter().map(|check| check.name.len()).max();
        let name_width = widest.unwrap_or(0);
        let indent = " ".repeat("unknown".len() + 2 + name_width + 2);
        let mut out = Vec::new();
        for check in &self.checks {
            let (word, name) = (check.state.word(), check.name);
            let first = format!("{word:7}  {name:name_width$}  ");
            let room = columns.map_or(usize::MAX, |columns| columns.saturating_sub(indent.len()));
            let margins = once(&first).chain(std::iter::repeat(&indent));
            for (margin, line) in margins.zip(fold(&escaped(check.detail.as_bytes()), room)) {
                put_line(&mut out, margin, &line);
            }
            if let Some(remedy) = &check.remedy {
                put_line(&mut out, "         $ ", &escaped(remedy.as_bytes()));
            }
            let room = columns.map_or(usize::MAX, |columns| {
                columns.saturating_sub(ADVICE_MARGIN.len())
            });
            let advice = check
                .advice
                .iter()
                .flat_map(|advice| fold(&escaped(advice.as_bytes()), room));
            advice.for_each(|line| put_line(&mut out, ADVICE_MARGIN, &line));
        }
        put_line(&mut out, "", &self.verdict());
        out
    }

    fn verdict(&self) -> String {
        let failed = self
            .checks
            .iter()
            .filter(|check| check.state == CheckState::Fail);
        let failed: Vec<&str> = failed.map(|check| check.name).collect();
        if !failed.is_empty() {
            let failed = failed.join(", ");
            return format!("Not all events can be received here: see {failed}.");
        }
        let when = |state, text| if self.has(state) { text } else { "" };
        let limits = when(CheckState::Limit, ", with limits");
        let doubt = when(CheckState::Unknown, ", as far as the checks can tell");
        format!("Conntrack and route events can be received here{limits}{doubt}.")
    }
}

fn put_line(out: &mut Vec<u8>, margin: &str, text: &str) {
    for part in [margin, text, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Diagnosis {
        Diagnosis {
            checks: vec![
                Check::new("one", CheckState::Ok, "all is well").value("count", 7),
                Check::new("second", CheckState::Limit, "evil\x1b[2J name, and more")
                    .remedy("fix it")
                    .advice("Do it soon.")
                    .advice("Or later."),
            ],
        }
    }

    #[test]
    fn a_check_is_a_line_with_its_remedy_below() {
        assert_eq!(
            String::from_utf8(report().text(None)).unwrap(),
            "ok       one     all is well\n\
             limit    second  evil\\x1b[2J name, and more\n         $ fix it\n         \
             Do it soon. Or later.\n\
             Conntrack and route events can be received here, with limits.\n"
        );
    }

    #[test]
    fn a_terminal_gets_folded_lines_below_each_other() {
        let text = String::from_utf8(report().text(Some(35))).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "limit    second  evil\\x1b[2J name,");
        assert_eq!(lines[2], "                 and more");
    }

    #[test]
    fn values_stand_beside_the_other_fields() {
        let report: Value = serde_json::from_slice(&report().json()).unwrap();
        let want = json!({
            "name": "one", "state": "ok", "detail": "all is well", "remedy": null, "advice": null, "count": 7
        });
        assert_eq!(report["checks"][0], want);
        assert_eq!(report["checks"][1]["remedy"], "fix it");
    }

    #[test]
    fn the_worst_check_decides_the_verdict() {
        let mut report = report();
        assert!(!report.is_impossible());
        report
            .checks
            .push(Check::new("third", CheckState::Unknown, ""));
        assert!(
            report
                .verdict()
                .ends_with("here, with limits, as far as the checks can tell.")
        );
        report
            .checks
            .push(Check::new("fourth", CheckState::Fail, ""));
        assert!(report.is_impossible() && report.verdict().ends_with("see fourth."));
    }
}
