//! Other programs read what nlringd writes: pyarrow and DuckDB, from PyPI.

mod support;

use nlring_testing::{must, own_namespace, run, run_or_skip};

use support::python::python;
use support::{Collector, make_flows, report_all_flows, scratch};

/// Prints what the JSON lines, pyarrow and DuckDB count and sum, one line each, and what is in the spool.
const SCRIPT: &str = r#"
import glob, json, sys
import duckdb, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
directory = sys.argv[1]
records = [json.loads(line) for path in glob.glob(directory + "/json/*.jsonl") for line in open(path)]
flows = [record for record in records if record["record"] == "flow"]
print(len(records), len(flows), sum(flow["orig_sport"] for flow in flows), sum(flow["time_ns"] // 10**6 for flow in flows))
paths = sorted(glob.glob(directory + "/parquet/*.parquet"))
table = pa.concat_tables(pq.read_table(path) for path in paths)
flows = table.filter(pc.equal(table["record"], "flow"))
times = pc.cast(flows["time"], pa.int64()).to_pylist()
print(table.num_rows, flows.num_rows, pc.sum(flows["orig_sport"]), sum(times))
print(*duckdb.sql(f"""
    select (select count(*) from '{directory}/parquet/*.parquet'), count(*), sum(orig_sport), sum(epoch_ms(time))
    from '{directory}/parquet/*.parquet' where record = 'flow'
""").fetchall()[0])
spooled = 0
for path in sorted(glob.glob(directory + "/spool/*.arrows.zst")):
    if reader := pa.ipc.open_stream(pa.input_stream(path)) if len(open(path, "rb").read(1)) else None:
        spooled += sum(batch.num_rows for batch in reader)
print(spooled > 0)
print(*duckdb.sql(f"""
    select count(*), sum((route->>'$.table')::int), list(route->>'$.dst' order by time)[-1]
    from '{directory}/parquet/*.parquet' where record = 'route' and event = 'new' and route_dst like '10.%'
""").fetchall()[0])
metadata = pq.ParquetFile(paths[0]).metadata.metadata
print(metadata[b"nlring.node"].decode(), int(metadata[b"nlring.complete_until_ns"]) > 0)
"#;

/// Asks nlringd and DuckDB 40 random questions about generated files, and prints how many answers had records.
const QUESTIONS: &str = r#"
import datetime, glob, json, random, subprocess, sys
import duckdb
nlringd, directory = sys.argv[1:]
subprocess.run([nlringd, "generate", "--records", "50000", "--rate", "20", "--output", directory], check=True)
files = f"'{directory}/*.parquet'"
duckdb.sql(f"create table flows as select * from {files}")
columns = "orig_src, orig_sport, orig_dst, epoch_ms(time)"
rows = duckdb.sql("select orig_src, orig_sport, orig_dst, orig_dport, nat_src, nat_sport, epoch_ms(time), proto "
                  "from flows where nat_sport is not null and orig_sport is not null order by time").fetchall()
random.seed(1)
answered = 0
for _ in range(40):
    src, sport, dst, dport, nat, nat_port, time, proto = random.choice(rows)
    options, terms = random.choice([
        (["--nat", f"{nat}:{nat_port}"], f"nat_src = '{nat}' and nat_sport = {nat_port}"),
        (["--nat", f":{nat_port}"], f"(nat_sport = {nat_port} or nat_dport = {nat_port})"),
        (["--src", src], f"orig_src = '{src}'"),
        (["--src", src, "--proto", proto], f"orig_src = '{src}' and proto = '{proto}'"),
        (["--dst", f"{dst}:{dport}"], f"orig_dst = '{dst}' and orig_dport = {dport}"),
    ])
    if random.random() < 0.7:
        time += random.randint(-2000, 2000)
        at = datetime.datetime.fromtimestamp(time / 1000, datetime.timezone.utc)
        options += ["--at", at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time % 1000:03}Z"]
        terms += f" and epoch_ms(coalesce(stop, time)) >= {time}"
        terms += f" and coalesce(epoch_ms(coalesce(start, observed_start)), 0) <= {time}"
    wanted = sorted(map(str, duckdb.sql(f"select {columns} from flows where {terms}").fetchall()))
    output = subprocess.run([nlringd, "query", directory, "--json", *options], capture_output=True, text=True)
    found = [json.loads(line) for line in output.stdout.splitlines()]
    found = [flow for flow in found if flow["record"] == "flow"]
    found = sorted(str((flow["orig_src"], flow.get("orig_sport"), flow["orig_dst"], flow["time_ns"] // 10**6)) for flow in found)
    assert found == wanted, (options, found[:3], wanted[:3], output.stderr)
    answered += bool(wanted)

# With some of the files, an answer that misses a flow must say that it is not complete.
paths = sorted(glob.glob(directory + "/*.parquet"))
missed = 0
for _ in range(40):
    some = random.sample(paths, random.randint(1, len(paths)))
    src, sport, dst, dport, nat, nat_port, time, proto = random.choice(rows)
    time -= random.randint(0, 2000)
    at = datetime.datetime.fromtimestamp(time / 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time % 1000:03}Z"
    terms = f"nat_src = '{nat}' and nat_sport = {nat_port} and epoch_ms(coalesce(stop, time)) >= {time}"
    terms += f" and coalesce(epoch_ms(coalesce(start, observed_start)), 0) <= {time}"
    wanted = duckdb.sql(f"select count(*) from flows where {terms}").fetchall()[0][0]
    output = subprocess.run([nlringd, "query", *some, "--json", "--nat", f"{nat}:{nat_port}", "--at", at], capture_output=True, text=True)
    found = sum(json.loads(line)["record"] == "flow" for line in output.stdout.splitlines())
    assert found == wanted or output.returncode in (3, 4), (at, some, found, wanted, output)
    missed += found < wanted
assert missed > 5, missed
print(answered)
"#;

#[test]
fn pyarrow_and_duckdb_count_what_was_made() {
    run_or_skip("pyarrow_and_duckdb_count_what_was_made", || {
        let python = python();
        own_namespace();
        report_all_flows();
        let directory = scratch("readers");
        let place = directory.display();
        let output = |format: &str, compression: &str| {
            format!(
                "[[files]]\nname = \"{format}\"\ndirectory = \"{place}/{format}\"\n\
                 format = \"{format}\"\ncompression = \"{compression}\"\nrotate_interval = \"1s\"\n"
            )
        };
        let config = format!(
            "node = \"gw\"\nroutes = true\nflush_interval = \"20ms\"\n[spool]\ndirectory = \"{place}/spool\"\n{}{}",
            output("parquet", "zstd"),
            output("json", "none")
        );
        let collector = Collector::start(&directory, &config);
        collector.await_log("recording");
        let made = make_flows(0, |number| number < 5000);
        must("ip route add unreachable 10.1.0.0/16 table 100");
        must("ip route add unreachable 10.2.0.0/16");
        collector.end();
        let script = directory.join("read.py");
        std::fs::write(&script, SCRIPT).expect("a script");
        must(&format!(
            "{} -m py_compile {}",
            python.display(),
            script.display()
        ));
        let arguments = [script.display().to_string(), place.to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        let output = run(&python.display().to_string(), &arguments).expect("python");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let [json, pyarrow, duckdb, spool, routes, metadata] = lines[..] else {
            panic!("six lines: {text}");
        };
        assert_eq!(
            json.split(' ').nth(1),
            Some(made.len().to_string().as_str())
        );
        assert_eq!(pyarrow, json);
        assert_eq!(duckdb, json);
        assert_eq!(spool, "True", "pyarrow reads the spool");
        assert_eq!(routes, "2 354 10.2.0.0/16");
        assert_eq!(metadata, "gw True");
    });
}

#[test]
fn duckdb_answers_as_query_does() {
    run_or_skip("duckdb_answers_as_query_does", || {
        let python = python();
        let directory = scratch("readers-questions");
        let script = directory.join("ask.py");
        std::fs::write(&script, QUESTIONS).expect("a script");
        let records = directory.join("records").display().to_string();
        let script = script.display().to_string();
        let arguments = [&script[..], env!("CARGO_BIN_EXE_nlringd"), &records];
        let output = run(&python.display().to_string(), &arguments).expect("python");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let answered = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse::<u32>();
        assert!(
            answered.expect("a number") > 20,
            "most questions have an answer"
        );
    });
}
