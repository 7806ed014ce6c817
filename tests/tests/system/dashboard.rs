//! The dashboard as people see it: a real browser, real jobs, in light and dark, on wide and narrow
//! screens.
//!
//! Screenshots are kept in `target/dashboard/` of the build, for people to look at.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamctl_tests::browser::Browser;
use streamctl_tests::cluster::Cluster;
use streamctl_tests::places::{binary, country_lookup, free_port, one_system_at_a_time};
use streamctl_tests::process::{Launch, Process};
use streamctl_tests::servers::Etcd;
use streamctl_tests::wait;

const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// Beside the programs, so that nothing is written into the checkout.
fn shots() -> PathBuf {
    binary("streamctl").parent().unwrap().join("dashboard")
}

/// A generated job whose figures are of every kind; `query` and `more` as in a job file.
fn job(folder: &Path, name: &str, columns: &str, more: &str) -> PathBuf {
    let lookup = folder.join("lookup");
    std::fs::create_dir_all(&lookup).unwrap();
    std::fs::copy(country_lookup(), lookup.join("country_lookup.csv")).unwrap();
    let file = folder.join(format!("{name}.toml"));
    let root = folder.display();
    let text = format!(
        r#"
name = "{name}"
[source]
type = "generator"
shards = 3
rate = 600
bad_every = 40
unmatched_every = 25
[window]
size = "1s"
[[lookup]]
name = "country_lookup"
path = "{root}/lookup/"
[transform]
sql = """
SELECT {columns}, c."Code" AS country_code FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""
[sink]
path = "{root}/{name}/out/"
[dead_letter]
path = "{root}/{name}/dead/"
[checkpoint]
location = "{root}/{name}/checkpoint/"
{more}
"#
    );
    std::fs::write(&file, text).unwrap();
    file
}

const COLUMNS: &str = "s.uuid, s.itemtype, s.unitssold";

fn run(folder: &Path, file: &Path, port: u16) -> Process {
    let address = format!("127.0.0.1:{port}");
    let args = ["run", file.to_str().unwrap(), "--http-listen", &address];
    Launch::new("run", binary("streamctl"), &args, folder).start()
}

#[test]
fn a_local_run_is_watched_live_through_a_lost_line_and_a_restart() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let file = job(folder.path(), "sales-by-country", COLUMNS, "");
    let port = free_port();
    let mut process = run(folder.path(), &file, port);
    let origin = format!("http://127.0.0.1:{port}");
    wait::until("the dashboard's address", SHOWN_WITHIN, || {
        process
            .log()
            .contains(&format!("dashboard: {origin}/"))
            .then_some(())
    });

    let mut browser = Browser::start(&shots());
    browser.open(&format!("{origin}/"));
    browser.see("#connection", "live");
    browser.see("tbody tr", "sales-by-country");
    browser.see("tbody .state", "running");
    browser.until("document.querySelector('tbody .spark path') !== null");
    browser.looks_good("jobs");

    browser.click("[data-nav=events]");
    browser.see("h1", "Events");
    browser.see(".events", "job submitted");
    browser.see(".events", "leader elected");
    browser.looks_good("events");
    browser.click("[data-nav=jobs]");

    browser.click("tbody a");
    browser.see("h1", "sales-by-country");
    browser.until("document.querySelectorAll('[data-chart=windows] .bar').length >= 3");
    // Windows come by themselves; a reload would forget this.
    browser.evaluate("document.body.dataset.mark = 'same page'");
    let before = browser
        .evaluate("document.querySelectorAll('[data-chart=windows] .bar').length")
        .as_u64()
        .unwrap();
    browser.until(&format!(
        "document.querySelectorAll('[data-chart=windows] .bar').length >= {}",
        before + 3
    ));
    assert_eq!(browser.evaluate("document.body.dataset.mark"), "same page");

    // The keyboard chooses a window; its figures are those of the API.
    browser.order(&json!({"do": "focus", "selector": "[data-chart=windows]"}));
    browser.order(&json!({"do": "press", "key": "Home"}));
    browser.order(&json!({"do": "press", "key": "ArrowRight"}));
    browser.see(".picked .facts", "Epoch");
    let same = browser.evaluate(
        "fetch('/api/v1/jobs/sales-by-country/epochs?from=2&limit=1').then((answer) => answer.json()).then(({ epochs }) => {
            const facts = Object.fromEntries([...document.querySelectorAll('.picked .facts div')].map((fact) =>
                [fact.children[0].textContent, fact.children[1].textContent.replaceAll(',', '')]));
            const counts = epochs[0].counts;
            return [Number(facts.Epoch) === 2, Number(facts['Rows in']) === counts.rows_in,
                Number(facts['Rows out']) === counts.rows_out, Number(facts['Dead letters']) === counts.rows_dead,
                Number(facts.Unmatched) === counts.rows_unmatched, counts.rows_dead > 0, counts.rows_unmatched > 0];
        })",
    );
    assert_eq!(same, json!([true, true, true, true, true, true, true]));
    assert_eq!(
        browser.evaluate("document.activeElement.dataset.chart"),
        "windows",
        "the focus stays where it was"
    );
    for text in [
        "From closed to published",
        "country_lookup",
        "Reported up to",
        "3 open, 0 ended",
        "job submitted",
    ] {
        browser.see(".card", text);
    }
    the_query_and_the_past_are_shown(&mut browser);
    rows_and_dead_letters_are_shown_on_request(&mut browser);
    browser.looks_good("job");
    browser.kept_to(&origin);

    process.kill();
    browser.see("#lost", "The controller does not answer");
    browser.see("#connection", "connection lost");
    browser.see("h1", "sales-by-country");
    browser.looks_good("lost");
    let _process = run(folder.path(), &file, port);
    browser.see("#connection", "live");
    browser.order(&json!({"do": "gone", "selector": "#lost"}));
    assert_eq!(browser.evaluate("document.body.dataset.mark"), "same page");
    // A page that is opened anew has the past, also that of the process before.
    browser.open("about:blank");
    browser.open(&format!("{origin}/#/job/sales-by-country"));
    browser.until("document.querySelectorAll('[data-timeline=rows] path.line').length >= 1");
    wait::until("windows of the process before", SHOWN_WITHIN, || {
        let found = browser.evaluate(
            "fetch('/api/v1/jobs/sales-by-country/history').then((answer) => answer.json()).then(({ points, reading }) =>
                !reading && points.some((point) => point.epochs > 0 && !point.stages.publish))",
        );
        (found == true).then_some(())
    });
    browser.kept_to_while_away(&origin);
}

/// Operators as a graph and as a table, the job file, and lines with times as their axis.
fn the_query_and_the_past_are_shown(browser: &mut Browser) {
    browser.until("document.querySelectorAll('[data-key=plan] .operator').length >= 6");
    browser.until("document.querySelector('[data-key=plan] :is(.hot, .warm)') !== null");
    browser.click("[data-key=operators] summary");
    browser.see("table.operators", "HashJoinExec");
    browser.click("[data-key=file] summary");
    browser.see("pre.file", "name = \"sales-by-country\"");
    browser.click("[data-span='900000']");
    for line in ["rows", "past-lag", "closed-to-published"] {
        browser.until(&format!(
            "document.querySelectorAll('[data-timeline={line}] path.line').length >= 1"
        ));
    }
    browser.until("document.querySelectorAll('[data-timeline=rows] [data-mark]').length >= 2");
    the_windows_of_a_chosen_time_are_shown(browser);
}

/// The rows are those of the API; they stay while windows come, until they are hidden.
fn rows_and_dead_letters_are_shown_on_request(browser: &mut Browser) {
    browser.see("[data-key=samples] .note", "read when you request them");
    browser.click("[data-sample=dead-letters]");
    browser.see(".sample th .value", "not JSON at byte");
    browser.see(".sample .value", "broken");
    browser.see(".sample .value", "generator-000");
    browser.click("[data-action=hide-sample]");
    browser.order(&json!({"do": "gone", "selector": ".sample"}));
    browser.click("[data-sample=rows]");
    browser.see(".picked .note", "20 of ");
    let same = browser.evaluate(
        "(async () => {
            const title = document.querySelector('[data-key=samples] h3').textContent;
            const epoch = Number(title.match(/[0-9,]+$/)[0].replaceAll(',', ''));
            const answer = await (await fetch(`/api/v1/jobs/sales-by-country/epochs/${epoch}/rows`)).json();
            const shown = [...document.querySelectorAll('.sample tbody tr')].map((row) =>
                [...row.querySelectorAll('.value')].map((value) => value.textContent));
            return [answer.rows.length, answer.columns.length, JSON.stringify(shown) === JSON.stringify(answer.rows)];
        })()",
    );
    assert_eq!(same, json!([20, 4, true]));
}

/// From a time before all windows: the first ones, and back.
fn the_windows_of_a_chosen_time_are_shown(browser: &mut Browser) {
    browser.evaluate(
        "(() => {
            const field = document.querySelector('[data-at]');
            field.value = '2020-01-01T00:00';
            return field.dispatchEvent(new Event('change', { bubbles: true }));
        })()",
    );
    browser.see("[data-key=which-windows]", "Back to the newest");
    browser.until("document.querySelector('.picked .facts dd').textContent === '1'");
    browser.click("[data-action=newest]");
    browser.order(&json!({"do": "gone", "selector": "[data-action=newest]"}));
}

#[test]
fn a_cluster_shows_what_stopped_what_failed_and_why_and_a_standby_shows_it_too() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(folder.path());
    let mut cluster = Cluster::empty(
        vec![],
        folder.path(),
        &format!("etcd://{}", etcd.address()),
        None,
    );
    cluster.add_controller("controller-1");
    let leader = wait::until("a leader", SHOWN_WITHIN, || cluster.leader());
    cluster.add_controller("controller-2");

    let origin = format!("http://{}", cluster.dashboard("controller-2"));
    let mut browser = Browser::start(&shots());
    wait::until("the standby's page", SHOWN_WITHIN, || {
        wait::http_get(origin.rsplit(':').next()?.parse().ok()?, "/readyz")?
            .contains("ready\n")
            .then_some(())
    });
    browser.open(&format!("{origin}/"));
    browser.see("#cluster", "stands by");
    browser.see("#cluster", "data from the leader");
    browser.see(".empty", "No jobs yet");
    browser.looks_good("no-jobs");
    browser.click("[data-nav=workers]");
    browser.see(".empty", "No worker is connected");
    browser.looks_good("no-workers");
    browser.click("[data-nav=jobs]");
    assert_eq!(leader, "controller-1");

    // Nobody reads yet: the job says what it waits for.
    let good = job(folder.path(), "orders", COLUMNS, "");
    let bad = job(
        folder.path(),
        "broken-cast",
        "CAST(s.itemtype AS BIGINT) AS n",
        "[retry]\nmax = 0",
    );
    cluster.cli_ok(&["submit", good.to_str().unwrap()]);
    browser.see("tbody .remark", "a worker: none is connected");
    cluster.add_worker("worker-1");
    browser.see("tbody tr:has-text('orders') .state", "running");
    browser.until(
        "[...document.querySelectorAll('td')].some((cell) => /\\d\\/s/.test(cell.textContent))",
    );

    cluster.cli_ok(&["submit", bad.to_str().unwrap()]);
    browser.see("tbody tr:has-text('broken-cast') .state", "failed");
    cluster.cli_ok(&["stop", "orders"]);
    browser.see("tbody tr:has-text('orders') .state", "stopped");
    the_same_as_the_command_line(&cluster, &mut browser);
    browser.looks_good("cluster");
    browser.click("tbody tr:has-text('broken-cast') a");
    browser.see(".problem.bad", "Stopped with an error");
    browser.see(".problem.bad .hint", "submit it with --change");
    assert!(
        browser
            .evaluate("document.title")
            .as_str()
            .unwrap()
            .starts_with("(1 failed) broken-cast · failed")
    );
    browser.looks_good("failed");

    let tree = browser.evaluate(RESHARDED);
    assert_eq!(
        tree,
        json!([5, 6, 0, "Lineage of 6 shards in 3 generations", true]),
        "a loop leads to itself"
    );

    assert_eq!(
        browser.evaluate(RATES),
        json!([80, 0, null]),
        "rates fall when nothing comes, and end with the job"
    );

    browser.click("nav a[data-nav=workers]");
    browser.see("tbody tr", "worker-1");
    browser.looks_good("workers");
    browser.click("tbody a");
    browser.see("h1", "worker-1");
    browser.see(".tile", "processors");
    browser.until("document.querySelectorAll('[data-timeline=cpu] path.line').length >= 1");
    browser.until("document.querySelectorAll('[data-timeline=memory] path.line').length >= 1");
    browser.looks_good("worker");
    browser.open(&format!("{origin}/#/job/no-such-job"));
    browser.see(".problem.bad", "there is no job no-such-job");
    browser.looks_good("no-such-job");
    browser.open(&format!("{origin}/#/worker/no-such-worker"));
    browser.see(".problem.bad", "no worker no-such-worker is connected");
    browser.looks_good("no-such-worker");

    // The leader goes: the page that was a standby's is the leader's now.
    cluster.kill("controller-1");
    browser.open(&format!("{origin}/#/"));
    browser.see("#cluster", "controller-2 leads");
    browser.see("tbody tr:has-text('orders') .state", "stopped");
}

/// A stopped job, its epochs and the workers' names: whoever asks, gets the same.
#[track_caller]
fn the_same_as_the_command_line(cluster: &Cluster, browser: &mut Browser) {
    let mut shown =
        browser.evaluate("fetch('/api/v1/jobs/orders').then((answer) => answer.json())");
    assert_eq!(
        shown.as_object_mut().unwrap().remove("shards_omitted"),
        Some(json!(0))
    );
    let printed: Value =
        serde_json::from_str(&cluster.cli_ok(&["status", "orders", "-o", "json"])).unwrap();
    assert_eq!(shown, printed);
    let shown = browser.evaluate(
        "fetch('/api/v1/jobs/orders/epochs?from=1&limit=1').then((answer) => answer.json())",
    );
    let printed = cluster.cli_ok(&[
        "epochs", "orders", "--from", "1", "--limit", "1", "-o", "json",
    ]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(shown["epochs"][0], printed[0]);
    let of_this_hour = cluster.cli_ok(&[
        "epochs", "orders", "--since", "1h", "--limit", "1", "-o", "json",
    ]);
    let of_this_hour: Value = serde_json::from_str(&of_this_hour).unwrap();
    assert_eq!(of_this_hour[0], printed[0]);
    let shown = browser.evaluate("fetch('/api/v1/workers').then((answer) => answer.json())");
    let printed: Value = serde_json::from_str(&cluster.cli_ok(&["workers", "-o", "json"])).unwrap();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&shown["workers"][0]), names(&printed[0]));
}

/// Rows per second: soon after a window, long after it, and of a job that is stopped.
const RATES: &str = r#"import('/page/overview.js').then(({ lastRate }) => {
    const job = (state) => ({ state, last_epoch: { window: { start_ms: 0, end_ms: 1000 }, committed_ms: 1000, counts: { rows_in: 80 } } });
    return [lastRate(job('running'), 3000), lastRate(job('running'), 60000), lastRate(job('stopped'), 3000)];
})"#;

/// Shards of a stream that was split and merged, with names and parents as no stream has them.
const RESHARDED: &str = r#"Promise.all([import('/page/charts.js'), import('/page/dom.js')]).then(([{ lineage }, { show }]) => {
    const shard = (shard, parents, ended) => ({ shard, parents, ended });
    const tree = lineage([shard('shardId-000000000000', [], true), shard('shardId-000000000001', ['shardId-000000000000'], true),
        shard('shardId-000000000002', ['shardId-000000000000'], true), shard('shardId-000000000003', ['shardId-000000000001', 'shardId-000000000002'], false),
        shard('shardId-000000000004', ['gone'], false), shard('<b>loop', ['<b>loop'], false)]);
    show(document.querySelector('#main'), tree);
    return [tree.querySelectorAll('.edge').length, tree.querySelectorAll('.shard').length, tree.querySelectorAll('b').length,
        tree.getAttribute('aria-label'), lineage([shard('a', [], false)]) === undefined];
})"#;

#[test]
fn a_key_that_looks_like_a_page_is_shown_as_text() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let hostile = "<img src=x onerror='document.title=1'><b>bold</b>";
    let records = folder.path().join("in");
    let lookup = folder.path().join("lookup");
    std::fs::create_dir_all(&records).unwrap();
    std::fs::create_dir_all(&lookup).unwrap();
    std::fs::write(lookup.join("l.csv"), "name,code\nPeru,PE\n").unwrap();
    let lines = [
        json!({"country": "Peru"}).to_string(),
        json!({ "country": hostile }).to_string(),
        // No JSON: a dead letter.
        format!("{hostile} \u{202e}{}", "x".repeat(2_000)),
    ];
    let text = lines.join("\n") + "\n";
    std::fs::write(records.join("<script>.json"), text).unwrap();
    let file = folder.path().join("job.toml");
    let text = r#"
name = "hostile"
[source]
type = "files"
path = "ROOT/in/"
format = "json"
[source.schema]
country = "string"
[window]
size = "1s"
[[lookup]]
name = "l"
path = "ROOT/lookup/"
[transform]
sql = "SELECT s.country, l.code FROM source s JOIN l ON s.country = l.name"
[sink]
path = "ROOT/out/"
[checkpoint]
location = "ROOT/checkpoint/"
"#;
    let rooted = text.replace("ROOT", folder.path().to_str().unwrap());
    std::fs::write(&file, rooted).unwrap();
    let mut cluster = Cluster::empty(
        vec![],
        folder.path(),
        &format!("file://{}/store", folder.path().display()),
        None,
    );
    cluster.add_controller("controller-1");
    wait::until("a leader", SHOWN_WITHIN, || cluster.leader());
    cluster.add_worker("worker-1");
    cluster.cli_ok(&["submit", file.to_str().unwrap()]);

    let origin = format!("http://{}", cluster.dashboard("controller-1"));
    let mut browser = Browser::start(&shots());
    browser.open(&format!("{origin}/#/job/hostile"));
    browser.see("h1 .state", "completed");
    browser.see(".key q", hostile);
    browser.see("th code", "<script>.json");
    browser.click("[data-sample=dead-letters]");
    browser.see(".sample .value", hostile);
    browser.see(".sample .value", "<script>.json");
    browser.until("[...document.querySelectorAll('.sample .value')].some((cell) => /x…$/.test(cell.textContent))");
    let made =
        browser.evaluate("[document.querySelectorAll('main img, main b, main script').length, document.title !== '1']");
    assert_eq!(made, json!([0, true]));
    browser.looks_good("hostile");
    browser.kept_to(&origin);
}
