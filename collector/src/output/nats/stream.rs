//! The stream: it is created, or its settings are compared with the configuration.

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};

use crate::config::{self, Nats, Storage};
use crate::failure::{Failure, Result};
use crate::nats::connection::Connection;
use crate::nats::problem;

/// The time in which the server recognises repeats, if the configuration does not set it.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

pub type Stream = stream::Stream;

/// The stream of the configuration.
///
/// # Errors
///
/// It does not exist and must not be created, or it has other settings.
pub async fn open(connection: &Connection, config: &Nats, subjects: &str) -> Result<Stream> {
    let name = &config.stream.name;
    let found = match connection.context.get_stream(name).await {
        Ok(stream) => stream,
        Err(error) => {
            let is_missing = matches!(error.kind(), GetStreamErrorKind::JetStream(error)
                if error.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND);
            let doing = format!("look at the stream {name}");
            if !is_missing {
                return Err(problem::failure(connection, &doing, &error));
            }
            if !config.stream.create {
                return Err(Failure::Other(format!(
                    "NATS at {}: there is no stream {name}; create it for the subjects {}.>, or set stream.create = true",
                    connection.addresses, config.prefix
                )));
            }
            create(connection, config).await?
        }
    };
    let settings = &found.cached_info().config;
    let differences = differences(&config.stream, settings);
    if !differences.is_empty() {
        return Err(Failure::Other(format!(
            "NATS at {}: the stream {name} has other settings than the configuration: {}; change the one (`nats stream \
             edit`) or the other",
            connection.addresses,
            differences.join(", ")
        )));
    }
    if !settings
        .subjects
        .iter()
        .any(|filter| takes(filter, subjects))
    {
        return Err(Failure::Other(format!(
            "NATS at {}: the stream {name} takes the subjects {}, and not {subjects}; correct prefix, or add {}.> to the \
             stream's subjects",
            connection.addresses,
            settings.subjects.join(", "),
            config.prefix
        )));
    }
    Ok(found)
}

async fn create(connection: &Connection, config: &Nats) -> Result<Stream> {
    let wanted = &config.stream;
    let settings = stream::Config {
        name: wanted.name.clone(),
        subjects: vec![format!("{}.>", config.prefix)],
        num_replicas: wanted.replicas.map_or(1, usize::from),
        storage: match wanted.storage {
            Some(Storage::Memory) => StorageType::Memory,
            Some(Storage::File) | None => StorageType::File,
        },
        max_bytes: wanted.max_bytes.map_or(-1, signed),
        max_age: wanted.max_age.map_or(Duration::ZERO, |age| age.0),
        duplicate_window: wanted.duplicate_window.map_or(
            wanted
                .max_age
                .map_or(DUPLICATE_WINDOW, |age| age.0.min(DUPLICATE_WINDOW)),
            |window| window.0,
        ),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        // Records that were not stored yet are not discarded: the spool keeps what does not fit.
        discard: DiscardPolicy::New,
        description: Some("records of nlringd".to_owned()),
        ..stream::Config::default()
    };
    let created = connection.context.create_stream(settings).await;
    created.map_err(|error| {
        let doing = format!("create the stream {}", wanted.name);
        problem::failure(connection, &doing, &error)
    })
}

/// The settings in which the configuration differs, each with both values.
fn differences(wanted: &config::Stream, found: &stream::Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |key: &str, wanted: Option<String>, found: String| {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            differences.push(format!("{key} is {found} there and {wanted} here"));
        }
    };
    let storage = match found.storage {
        StorageType::File => "file",
        StorageType::Memory => "memory",
    };
    let wanted_storage = wanted.storage.map(|storage| match storage {
        Storage::File => "file".to_owned(),
        Storage::Memory => "memory".to_owned(),
    });
    let span = |span: config::Span| format!("{:?}", span.0);
    compare(
        "replicas",
        wanted.replicas.map(|count| count.to_string()),
        found.num_replicas.to_string(),
    );
    compare("storage", wanted_storage, storage.to_owned());
    compare(
        "max_bytes",
        wanted.max_bytes.map(|bytes| signed(bytes).to_string()),
        found.max_bytes.to_string(),
    );
    compare(
        "max_age",
        wanted.max_age.map(span),
        format!("{:?}", found.max_age),
    );
    compare(
        "duplicate_window",
        wanted.duplicate_window.map(span),
        format!("{:?}", found.duplicate_window),
    );
    differences
}

fn signed(bytes: config::Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

/// Whether a stream with the subject `filter` takes all of `subjects`.
fn takes(filter: &str, subjects: &str) -> bool {
    let mut filter = filter.split('.');
    let mut subjects = subjects.split('.');
    loop {
        match (filter.next(), subjects.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(token), Some(other)) if token == other => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::takes;

    #[test]
    fn a_subject_takes_what_its_wildcards_say() {
        for (filter, subjects, wanted) in [
            ("nlring.>", "nlring.gw1.*", true),
            ("nlring.*.*", "nlring.gw1.*", true),
            ("nlring.gw1.*", "nlring.gw1.*", true),
            ("nlring.*", "nlring.gw1.*", false),
            ("nlring.gw1.flows", "nlring.gw1.*", false),
            ("nlring.gw1.*.x", "nlring.gw1.*", false),
            ("other.>", "nlring.gw1.*", false),
        ] {
            assert_eq!(takes(filter, subjects), wanted, "{filter} {subjects}");
        }
    }
}
