//! The output to NATS, with a real server.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream;
use nlring_testing::{Random, await_that, own_namespace, raise_loopback, run_or_skip};

use support::jwt::Operator;
use support::nats::{self, Reader, Server};
use support::relay::relay;
use support::{Collector, Contents, make_flows, report_all_flows, scratch};

/// A configuration with an output to the server, and these lines for it.
fn config(directory: &Path, lines: &str) -> String {
    let place = directory.display();
    format!(
        "node = \"gw.1\"\nflush_interval = \"50ms\"\n[http]\naddress = \"off\"\n\
         [spool]\ndirectory = \"{place}/spool\"\nsegment = \"256KiB\"\n[[nats]]\n{lines}\n"
    )
}

/// A namespace of its own whose flows are reported, and an empty directory.
fn prepare(name: &str) -> std::path::PathBuf {
    nats::program();
    own_namespace();
    raise_loopback();
    report_all_flows();
    scratch(name)
}

/// What the stream has, with the coverage of each message in order.
fn contents(reader: &Reader) -> Contents {
    let mut contents = Contents::default();
    for message in reader.messages() {
        contents.take_message(&message);
    }
    // A batch that the server refused comes behind later ones.
    contents.complete.sort_unstable();
    contents.complete.dedup();
    contents
}

#[test]
fn a_stream_has_each_flow_once_whatever_is_killed() {
    run_or_skip("nats kill", || {
        let directory = prepare("nats-kill");
        let mut server = Some(Server::start(&directory, ""));
        let config = config(&directory, "");
        let collector = Collector::start(&directory, &config);
        collector.await_log("recording");
        let goes_on = Arc::new(AtomicBool::new(true));
        let load = thread::spawn({
            let goes_on = goes_on.clone();
            move || make_flows(0, |_| goes_on.load(Ordering::Relaxed))
        });
        let mut random = Random::new(1);
        let mut running = Some(collector);
        for round in 0..10 {
            thread::sleep(Duration::from_millis(random.below(1000).into()));
            if round % 3 == 2 {
                server.take().expect("it runs").kill();
                thread::sleep(Duration::from_millis(random.below(500).into()));
                server = Some(Server::start(&directory, ""));
            } else {
                running.take().expect("it runs").kill();
                running = Some(Collector::start(&directory, &config));
            }
        }
        let reader = Reader::connect();
        let before = reader.message_count();
        await_that("messages of the last run", || {
            reader.message_count() > before + 3
        });
        goes_on.store(false, Ordering::Relaxed);
        let made = load.join().expect("the load");
        running.expect("it runs").end();
        let contents = contents(&reader);
        let missing_count = contents.assert_accounts_for(&made);
        contents.assert_joined();
        let made_count = made.len();
        eprintln!("{made_count} flows, {missing_count} of them within losses");
        assert!(
            missing_count < made_count * 9 / 10,
            "most of the time nlringd ran"
        );
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

/// How many messages are behind one with a later position of the spool.
fn late_count(reader: &Reader) -> usize {
    let mut latest = String::new();
    let is_late = |message: &&StreamMessage| {
        let positions = message.headers.get("Nlring-Position").expect("a header");
        let (_, position) = positions.as_str().split_once(' ').expect("two positions");
        let is_late = position < latest.as_str();
        latest = latest.clone().max(position.to_owned());
        is_late
    };
    reader.messages().iter().filter(is_late).count()
}

/// The latest records are sent ahead of a backlog, while nlringd and the server are killed again and again.
#[test]
fn a_stream_has_each_flow_once_although_some_are_sent_ahead() {
    run_or_skip("nats ahead", || {
        let directory = prepare("nats-ahead");
        let mut server = Some(Server::start(&directory, ""));
        // Each batch takes this long, so a backlog needs time.
        let relayed = "127.0.0.1:4223";
        relay(relayed, nats::ADDRESS.to_owned(), Duration::from_millis(3));
        // The server does not recognise what it has already.
        let lines = format!(
            "window = 1\n[nats.servers]\naddresses = [\"nats://{relayed}\"]\n\
             [nats.stream]\nduplicate_window = \"100ms\""
        );
        let config = format!("records = \"both\"\n{}", config(&directory, &lines));
        let mut running = Some(Collector::start(&directory, &config));
        let collector = running.as_ref().expect("it runs");
        collector.await_log("recording");
        let goes_on = Arc::new(AtomicBool::new(true));
        let load = thread::spawn({
            let goes_on = goes_on.clone();
            move || make_flows(0, |_| goes_on.load(Ordering::Relaxed))
        });
        let mut random = Random::new(1);
        for round in 0..8 {
            let is_outage = round % 4 == 0;
            if is_outage || random.percent(50) {
                server.take().expect("it runs").kill();
                thread::sleep(Duration::from_secs(if is_outage { 5 } else { 0 }));
                server = Some(Server::start(&directory, ""));
            } else {
                running.take().expect("it runs").kill();
                running = Some(Collector::start(&directory, &config));
            }
            thread::sleep(Duration::from_millis(random.below(1500).into()));
        }
        goes_on.store(false, Ordering::Relaxed);
        let made = load.join().expect("the load");
        running.expect("it runs").end();
        let reader = Reader::connect();
        let contents = contents(&reader);
        let missing_count = contents.assert_accounts_for(&made);
        contents.assert_joined();
        let mut events = contents.events.clone();
        events.sort_unstable();
        events.dedup();
        assert_eq!(
            events.len(),
            contents.events.len(),
            "an event is there twice"
        );
        let (made_count, late_count) = (made.len(), late_count(&reader));
        eprintln!(
            "{made_count} flows, {missing_count} within losses; {late_count} messages are behind later ones"
        );
        assert!(late_count > 20, "some were sent ahead");
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

/// Starts nlringd with these lines for the output, and waits until it says this. All that it has logged.
#[track_caller]
fn says(directory: &Path, lines: &str, text: &str) -> String {
    let collector = Collector::start(directory, &config(directory, lines));
    collector.await_log(text);
    let log = collector.log();
    collector.kill();
    fs::remove_file(directory.join("log")).expect("a log");
    log
}

/// A server that says that it has this version, to one client, and does nothing else.
fn pretend_to_be(version: &str) -> thread::JoinHandle<()> {
    let listener = TcpListener::bind(nats::ADDRESS).expect("an address");
    let info = format!(
        "INFO {{\"server_id\":\"old\",\"server_name\":\"old\",\"version\":\"{version}\",\"go\":\"\",\
         \"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1048576,\"proto\":1}}\r\n"
    );
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(info.as_bytes()).expect("it is sent");
        let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
        for line in lines.map_while(Result::ok) {
            if line == "PING" {
                stream.write_all(b"PONG\r\n").expect("it is sent");
            }
        }
    })
}

#[test]
fn what_is_wrong_is_said_with_the_remedy() {
    run_or_skip("nats errors", || {
        let directory = prepare("nats-errors");
        let place = directory.display();
        says(&directory, "", "no server can be reached");
        let old = pretend_to_be("2.2.0");
        let version = "the server has version 2.2.0; use nats-server 2.9 or later";
        says(&directory, "", version);
        old.join().expect("a server");
        let server = Server::start_with(&directory, "listen: \"127.0.0.1:4222\"\n");
        says(
            &directory,
            "",
            "the server has no JetStream for this account",
        );
        server.kill();

        let server = Server::start(&directory, "");
        let reader = Reader::connect();
        let mut settings = stream::Config {
            name: "nlring".to_owned(),
            subjects: vec!["other.>".to_owned()],
            max_age: Duration::from_secs(3600),
            ..stream::Config::default()
        };
        reader.set(settings.clone());
        let lines = "[nats.stream]\nmax_age = \"2h\"\nmax_bytes = \"1GiB\"";
        let both =
            "max_bytes is -1 there and 1073741824 here, max_age is 3600s there and 7200s here";
        says(&directory, lines, both);
        let subjects = "takes the subjects other.>, and not nlring.gw_1.*; correct prefix";
        says(&directory, "", subjects);
        let absent = "[nats.stream]\nname = \"absent\"\ncreate = false";
        says(&directory, absent, "there is no stream absent; create it");
        settings.subjects = vec!["nlring.>".to_owned()];
        reader.set(settings);
        server.kill();

        let permissions = "authorization { users: [ { user: u, password: secret-of-u, \
                           permissions { publish: { deny: \"nlring.>\" } } } ] }";
        let server = Server::start(&directory, permissions);
        let password = directory.join("password");
        fs::write(&password, "secret-of-u\n").expect("a file");
        let servers = format!("[nats.servers]\nuser = \"u\"\npassword_file = \"{place}/password\"");
        let log = says(&directory, &servers, "Permissions Violation for Publish");
        assert!(log.contains("give this user the permissions"), "{log}");
        fs::write(&password, "wrong-secret\n").expect("a file");
        let log = says(
            &directory,
            &servers,
            "the server does not accept this client",
        );
        assert!(!log.contains("wrong-secret"), "{log}");
        server.kill();
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

/// Starts nlringd, makes flows, ends it, and expects each flow once in the stream.
#[track_caller]
fn publishes(directory: &Path, lines: &str, reader: impl Fn() -> Reader, count: u32) {
    let collector = Collector::start(directory, &config(directory, lines));
    collector.await_log("recording");
    let made = make_flows(0, |number| number < count);
    collector.end();
    assert_eq!(contents(&reader()).assert_accounts_for(&made), 0);
}

#[test]
fn messages_that_would_be_too_large_are_split() {
    run_or_skip("nats sizes", || {
        let directory = prepare("nats-sizes");
        let _server = Server::start(&directory, "max_payload: 4KB");
        publishes(&directory, "", Reader::connect, 3000);
        let parts = Reader::connect().messages().into_iter().map(|message| {
            let part = message.headers.get("Nlring-Part").expect("a header");
            part.as_str() != "1/1"
        });
        assert!(parts.filter(|is_part| *is_part).count() > 3);
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

#[test]
fn what_does_not_fit_into_a_full_stream_waits() {
    run_or_skip("nats full", || {
        let directory = prepare("nats-full");
        let _server = Server::start(&directory, "");
        let reader = Reader::connect();
        let settings = stream::Config {
            name: "nlring".to_owned(),
            subjects: vec!["nlring.>".to_owned()],
            max_messages: 5,
            discard: stream::DiscardPolicy::New,
            ..stream::Config::default()
        };
        reader.set(settings.clone());
        let collector = Collector::start(&directory, &config(&directory, ""));
        collector.await_log("recording");
        let made = make_flows(0, |number| number < 3000);
        collector.await_log("the stream or the account is full");
        assert_eq!(reader.message_count(), 5);
        reader.set(stream::Config {
            max_messages: -1,
            ..settings
        });
        collector.await_log("the output goes on");
        collector.end();
        let contents = contents(&reader);
        assert_eq!(contents.assert_accounts_for(&made), 0);
        contents.assert_joined();
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

#[test]
fn a_second_nlringd_of_the_same_name_is_found_out() {
    run_or_skip("nats names", || {
        let directory = prepare("nats-names");
        let _server = Server::start(&directory, "");
        let collector = Collector::start(&directory, &config(&directory, ""));
        collector.await_log("recording");
        let reader = Reader::connect();
        await_that("a message", || reader.message_count() > 0);
        let other = directory.join("other");
        fs::create_dir_all(&other).expect("a directory");
        let log = says(&other, "", "give each host a `node` of its own");
        assert!(log.contains("is of another spool"), "{log}");
        // A message that it has not sent.
        reader.publish("nlring.gw_1.flows");
        collector.await_log("a message of the node gw.1 that was not expected");
        collector.await_log("the output goes on");
        let made = make_flows(0, |number| number < 100);
        collector.end();
        let mut contents = Contents::default();
        for message in reader.messages() {
            if message.headers.get("Nlring-Part").is_some() {
                contents.take_message(&message);
            }
        }
        assert_eq!(contents.assert_accounts_for(&made), 0);
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

/// The seed of an nkey and its public key, those of the documentation of NATS.
const NKEY: [&str; 2] = [
    "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
];

/// Makes a certificate authority, and certificates of a server and a client that it has signed.
fn make_certificates(directory: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$name
            printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE' > extensions
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \\
                -extfile extensions -out $name.pem
        done";
    let output = std::process::Command::new("sh")
        .args(["-e", "-c", script])
        .current_dir(directory)
        .output()
        .expect("a shell");
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        nlring_testing::cannot_run(format!("openssl makes no certificates: {errors}"));
    }
}

#[test]
fn with_tls_each_proof_is_accepted_and_no_secret_is_shown() {
    run_or_skip("nats tls", || {
        let directory = prepare("nats-tls");
        let place = directory.display();
        make_certificates(&directory);
        for (name, text) in [
            ("password", "secret-password"),
            ("token", "secret-token"),
            ("nkey", NKEY[0]),
        ] {
            fs::write(directory.join(name), format!("{text}\n")).expect("a file");
        }
        let tls = format!(
            "tls {{ cert_file: \"{place}/server.pem\", key_file: \"{place}/server.key\", \
             ca_file: \"{place}/ca.pem\", verify: true }}"
        );
        let certificates = format!(
            "[nats.servers]\naddresses = [\"tls://127.0.0.1:4222\"]\n\
             certificate_file = \"{place}/client.pem\"\nkey_file = \"{place}/client.key\""
        );
        let reader_options = || {
            let path = |name: &str| directory.join(name);
            async_nats::ConnectOptions::new()
                .add_root_certificates(path("ca.pem"))
                .add_client_certificate(path("client.pem"), path("client.key"))
        };
        let server = Server::start(&directory, &tls);
        says(&directory, &certificates, "the certificate is not accepted");
        let without = format!("[nats.servers]\nca_file = \"{place}/ca.pem\"");
        says(&directory, &without, "NATS at nats://127.0.0.1:4222: ");
        server.kill();
        let users = format!(
            "authorization {{ users: [ {{ user: u, password: secret-password }}, {{ nkey: {} }} ] }}",
            NKEY[1]
        );
        let token = "authorization { token: secret-token }".to_owned();
        for (number, (accounts, proof)) in [
            (
                &users,
                format!("user = \"u\"\npassword_file = \"{place}/password\""),
            ),
            (&users, format!("nkey_file = \"{place}/nkey\"")),
            (&token, format!("token_file = \"{place}/token\"")),
        ]
        .into_iter()
        .enumerate()
        {
            let lines = format!("{certificates}\nca_file = \"{place}/ca.pem\"\n{proof}");
            let server = Server::start(&directory, &format!("{tls}\n{accounts}"));
            let collector = Collector::start(
                &directory,
                &config(&directory, &format!("{lines}\n[log]\nlevel = \"debug\"")),
            );
            collector.await_log("recording");
            let first = u32::try_from(number).expect("a number") * 100;
            let made = make_flows(first, |number| number < first + 100);
            let is_token = number == 2;
            let options = reader_options();
            let reader = Reader::connect_with(if is_token {
                options.token("secret-token".to_owned())
            } else {
                options.user_and_password("u".to_owned(), "secret-password".to_owned())
            });
            let log = collector.log();
            collector.end();
            let contents = contents(&reader);
            assert_eq!(contents.missing_count(&made), 0, "{proof}: {log}");
            let checked = std::process::Command::new(support::NLRINGD)
                .args(["run", "--check-config", "--config"])
                .arg(directory.join("nlringd.toml"))
                .output()
                .expect("nlringd starts");
            let shown = format!("{log}{checked:?}");
            assert!(shown.contains("the stream nlring of NATS"), "{shown}");
            for secret in ["secret-password", "secret-token", NKEY[0]] {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
            server.kill();
            fs::remove_file(directory.join("log")).expect("a log");
        }
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

#[test]
fn a_credentials_file_is_accepted_and_not_shown() {
    run_or_skip("nats credentials", || {
        let directory = prepare("nats-credentials");
        let place = directory.display();
        let operator = Operator::new();
        let _server = Server::start(&directory, &operator.lines);
        let (credentials, seed) = operator.credentials();
        let (of_another_operator, _) = Operator::new().credentials();
        let path = directory.join("gw.creds");
        let lines = format!(
            "[nats.servers]\ncredentials_file = \"{place}/gw.creds\"\n[log]\nlevel = \"debug\""
        );
        fs::write(&path, "no credentials").expect("a file");
        says(&directory, &lines, "gw.creds is no file of credentials");
        fs::write(&path, of_another_operator).expect("a file");
        says(&directory, &lines, "the server does not accept this client");
        fs::write(&path, &credentials).expect("a file");
        let reader = || {
            let options = async_nats::ConnectOptions::new().credentials(&credentials);
            Reader::connect_with(options.expect("credentials"))
        };
        publishes(&directory, &lines, reader, 300);
        let log = fs::read_to_string(directory.join("log")).expect("a log");
        assert!(!log.contains(&seed), "{log}");
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

#[test]
fn the_consumer_of_the_documentation_prints_each_flow() {
    run_or_skip("nats consumer", || {
        let python = support::python::python();
        let directory = prepare("nats-consumer");
        let _server = Server::start(&directory, "");
        let lines = "format = \"arrow\"";
        let collector = Collector::start(&directory, &config(&directory, lines));
        collector.await_log("recording");
        let made = make_flows(0, |number| number < 500);
        collector.end();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nats_consumer.py");
        let output = std::process::Command::new(python)
            .arg(script)
            .arg("nats://127.0.0.1:4222")
            .output()
            .expect("Python starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), made.len(), "{text}{errors}");
        assert!(text.contains("gw.1 10.0.0.7 1024 None"), "{text}");
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}

#[test]
fn json_lines_have_the_same_records() {
    run_or_skip("nats json", || {
        let directory = prepare("nats-json");
        let _server = Server::start(&directory, "");
        let lines = "format = \"json\"\nprefix = \"a.b\"";
        let collector = Collector::start(&directory, &config(&directory, lines));
        collector.await_log("recording");
        let made = make_flows(0, |number| number < 500);
        collector.end();
        let mut sources = Vec::new();
        for message in Reader::connect().messages() {
            assert!(
                message.subject.starts_with("a.b.gw_1."),
                "{}",
                message.subject
            );
            let text = zstd::stream::decode_all(&message.payload[..]).expect("a zstd frame");
            for line in String::from_utf8(text).expect("text").lines() {
                let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
                if record["record"] == "flow" {
                    sources.push(record["orig_src"].as_str().expect("an address").to_owned());
                }
            }
        }
        let count = sources.len();
        sources.sort_unstable();
        sources.dedup();
        assert_eq!([count, sources.len()], [made.len(); 2]);
        fs::remove_dir_all(&directory).expect("it is removed");
    });
}
