//! The configuration: what is accepted with which defaults, and what is refused with which words.
#![allow(clippy::unnecessary_to_owned, reason = "the table of refusals takes owned texts, the empty one too")]

use std::collections::BTreeSet;
use std::path::Path;

use larum::config::{Config, ConfigError, FeatureQuery, Start};
use larum::shop::{START_MS, Shop, larum_toml};

/// The least that a test of one other section needs.
const LEAST: &str = "[kafka]\nevents = \"requests\"\n[event.fields]\nlatency_ms = \"double\"\n";

fn env(name: &str) -> Option<String> {
    match name {
        "KAFKA_HOST" => Some("kafka-1".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn parse(text: &str) -> Config {
    Config::parse(Path::new("larum.toml"), text, &env).unwrap_or_else(|refused| panic!("{refused}"))
}

/// What a person reads about `text`.
fn refused(text: &str) -> String {
    match Config::parse(Path::new("larum.toml"), text, &env) {
        Ok(config) => panic!("accepted: {config:#?}"),
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn check_says_what_would_run() {
    let folder = tempfile::tempdir().unwrap();
    let models = "[[models]]\nkind = \"nearest_neighbours\"\nscope = \"entity\"\n[[models]]\nkind = \"one_class_svm\"\nnu = 0.1\n\
                  [[models]]\nkind = \"linear_regression\"\ntargets = [\"latency_ms\"]\n[[models]]\nkind = \"svm\"\n";
    std::fs::write(folder.path().join("larum.toml"), format!("{LEAST}{models}")).unwrap();
    let larum = env!("CARGO_BIN_EXE_larum");
    let output = std::process::Command::new(larum).current_dir(&folder).args(["check", "-c", "larum.toml"]).output();
    insta::assert_snapshot!(String::from_utf8(output.unwrap().stdout).unwrap());
}

#[test]
fn check_names_an_entity_that_is_no_field() {
    let folder = tempfile::tempdir().unwrap();
    let fields = "[event]\nentity = \"hots\"\n[event.fields]\nhost = \"string\"\nlatency_ms = \"double\"\n";
    std::fs::write(folder.path().join("larum.toml"), format!("[kafka]\nevents = \"requests\"\n{fields}")).unwrap();
    let larum = env!("CARGO_BIN_EXE_larum");
    let output = std::process::Command::new(larum).current_dir(&folder).args(["check", "-c", "larum.toml"]).output();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(said.contains("entity `hots` is not in [event.fields]") && said.contains("did you mean `host`?"), "{said}");
}

#[test]
fn the_least_takes_every_default() {
    insta::assert_debug_snapshot!(parse(LEAST));
}

#[test]
fn the_example_lists_every_key_with_its_default() {
    let example = include_str!("../larum.example.toml");
    let config = Config::parse(Path::new("larum.example.toml"), example, &env).unwrap_or_else(|r| panic!("{r}"));
    let mut least = parse(LEAST);
    // What the example must say, for it has no default or is the example's own.
    least.event = config.event.clone();
    least.features = config.features.clone();
    assert_eq!(config, least);
    assert_eq!(config.event.lateness_ms, parse(LEAST).event.lateness_ms);
    insta::assert_debug_snapshot!((&config.event, &config.models));
}

#[test]
fn every_key_can_be_changed() {
    insta::assert_debug_snapshot!(parse(
        r#"
        seed = 7
        [kafka]
        brokers = "${KAFKA_HOST}:9092"
        group = "watchers"
        events = "a"
        predictions = "b"
        labels = "c"
        label_log = "d"
        dead_letters = "e"
        start = "2026-01-31T08:00:00Z"
        [kafka.client]
        "security.protocol" = "SASL_SSL"
        ssl.ca.location = "/ca.pem"
        "sasl.password" = "$${not a reference}"
        "socket.timeout.ms" = 1000
        "socket.keepalive.enable" = true
        [event]
        format = "json"
        id = "i"
        time = "t"
        entity = "e"
        lateness = "500ms"
        [event.fields]
        z = "double NOT NULL"
        a = "String"
        t = "timestamp"
        b = "bigint"
        c = "boolean"
        [features]
        sql = "SELECT z FROM events"
        [[models]]
        name = "latency"
        kind = "linear_regression"
        targets = ["z"]
        [[models]]
        kind = "svm"
        kernel = "linear"
        [decision]
        threshold = 0.95
        quiet_period = "10m"
        [decision.features.z]
        direction = "up"
        min_change = 50
        min_relative_change = 0.2
        [decision.features."an other"]
        direction = "down"
        [learning]
        refit = "500 labels"
        [store]
        url = "sqlite:/var/lib/larum.db"
        keep = 0
        retention = "1d"
        label_horizon = "2d"
        [api]
        listen = "localhost:0"
        [limits]
        event_bytes = 0x1000
        event_depth = 3
        queue_events = 4
        entities = 5
        window_rows = 6
        categories = 7
        pending_labels = 8
        stored_rows = 9000
        body_bytes = 10000
        request_ms = 11
        connections = 12
        commit_rows = 13
        commit_ms = 14
        snapshot_ms = 1500
        "#
    ));
}

#[test]
fn the_default_query_takes_every_field_but_id_entity_and_times() {
    let config = parse(
        "[kafka]\nevents = \"requests\"\n[event]\nid = \"id\"\nentity = \"host\"\n[event.fields]\nid = \"string\"\n\
         host = \"string\"\nts = \"timestamp\"\n\"a \\\"b\\\"\" = \"double\"\nregion = \"string\"\n",
    );
    assert_eq!(config.features.sql, "SELECT \"a \"\"b\"\"\",\n       \"region\"\nFROM events");
}

#[test]
fn a_query_file_is_read_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larum.toml");
    std::fs::write(&path, "[kafka]\nevents = \"requests\"\n[features]\nfile = \"q.sql\"\n").unwrap();
    let error = match Config::load(&path) {
        Err(ConfigError::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    };
    assert!(error.to_string().contains("cannot read the feature query"), "{error}");
    std::fs::write(folder.path().join("q.sql"), "SELECT x\nFROM evnts").unwrap();
    let query = Config::load(&path).unwrap().features;
    assert_eq!(query.sql, "SELECT x\nFROM evnts");
    let shown = query.refused(2, 6, "unknown table evnts").to_string();
    assert!(shown.contains("q.sql:2:6") && shown.contains("FROM evnts"), "{shown}");
}

#[test]
fn an_error_in_the_query_is_shown_in_the_file_that_holds_it() {
    let inline = parse(
        "[kafka]\nevents = \"requests\"\n[features]\nsql = \"\"\"\nSELECT latency_ms,\n       MEDIAN(ü) AS m\nFROM events\n\"\"\"\n",
    );
    insta::assert_snapshot!(inline.features.refused(2, 8, "MEDIAN is not there yet: COUNT, SUM, AVG ..."));
    let escaped = parse("[kafka]\nevents = \"requests\"\n[features]\nsql = \"SELECT\\n  x FROM events\"\n");
    insta::assert_snapshot!(escaped.features.refused(2, 3, "no field x"));
    // Beyond the end, as parsers say of a text that stops too early.
    insta::assert_snapshot!(escaped.features.refused(9, 9, "the query ends too early"));
    let comment = FeatureQuery::alone("comment.sql".into(), "SELECT -- ü".into());
    insta::assert_snapshot!(comment.refused(9, 9, "the query ends too early"));
}

#[test]
fn an_error_in_a_line_too_long_to_draw_names_its_column() {
    let query = FeatureQuery::alone("one_line.sql".into(), format!("SELECT\n{}x FROM events", "(".repeat(100_000)));
    let shown = query.refused(2, 90_000, "the query is nested too deep").to_string();
    assert!(shown.contains("the query is nested too deep, in line 2, column 90000"), "{}", &shown[..200]);
    assert!(shown.len() < 500, "the line itself is not shown");
}

#[test]
fn start_is_latest_earliest_or_a_time() {
    let start = |text: &str| parse(&LEAST.replace("[event", &format!("start = \"{text}\"\n[event"))).kafka.start;
    assert_eq!(start("latest"), Start::Latest);
    assert_eq!(start("earliest"), Start::Earliest);
    assert_eq!(start("1970-01-01T01:00:00+01:00"), Start::Time(0));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("no/such/larum.toml")).unwrap_err().to_string();
    assert!(error.contains("no/such/larum.toml"), "{error}");
}

#[test]
fn the_shops_configuration_fits_its_traffic() {
    let config = Config::parse(Path::new("shop.toml"), larum_toml(), &env).unwrap_or_else(|r| panic!("{r}"));
    let json: serde_json::Value = serde_json::from_slice(&Shop::new(1, START_MS).event(0).to_json()).unwrap();
    let declared: BTreeSet<&str> = config.event.fields.iter().map(|field| field.name.as_str()).collect();
    let sent: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(declared, sent);
    assert_eq!(config.event.entity.as_deref(), Some("host"));
}

#[test]
fn a_rule_for_what_is_no_feature_names_the_nearest() {
    let refused = |feature: &str| {
        let text = with(&format!("[decision.features.{feature}]\nmin_change = 5\n"));
        larum::cli::run::blueprint(&parse(&text)).map(drop).unwrap_err().to_string()
    };
    assert_eq!(
        refused("latncy_ms"),
        "[decision.features]: the query has no numeric feature `latncy_ms`; did you mean `latency_ms`?"
    );
    assert_eq!(refused("colour"), "[decision.features]: the query has no numeric feature `colour`");
}

/// One snapshot per refusal: a change of words is seen in review.
macro_rules! refusals {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ description => $text, omit_expression => true }, {
                insta::assert_snapshot!(refused(&$text));
            });
        })*
    };
}

fn with(section: &str) -> String {
    format!("{LEAST}{section}")
}

refusals! {
    empty_file: "".to_owned();
    not_toml: "[kafka\nevents = requests\n";
    key_given_twice: "[kafka]\nevents = \"a\"\nevents = \"b\"\n";
    missing_topic: "[kafka]\nbrokers = \"kafka:9092\"\n[event.fields]\nx = \"double\"\n";
    bad_topic: "[kafka]\nevents = \"my requests\"\n[event.fields]\nx = \"double\"\n";
    same_topic_twice: "[kafka]\nevents = \"a\"\nlabels = \"a\"\n[event.fields]\nx = \"double\"\n";
    nothing_to_make_features_of: "[kafka]\nevents = \"a\"\n";
    only_an_id: "[kafka]\nevents = \"a\"\n[event]\nid = \"x\"\n[event.fields]\nx = \"string\"\nat = \"timestamp\"\n";
    unknown_key_with_a_near_one: "[kafka]\nevents = \"a\"\nborkers = \"kafka:9092\"\n[event.fields]\nx = \"double\"\n";
    unknown_key_with_none_near: with("[store]\ncolour = \"red\"\n");
    unknown_section: with("[feature]\nsql = \"SELECT 1\"\n");
    wrong_type: with("[store]\nkeep = \"all\"\n");
    a_value_where_a_table_belongs: with("[limits]\n").replace("[kafka]\nevents = \"requests\"", "kafka = \"requests\"");
    unset_variable: "[kafka]\nevents = \"a\"\nbrokers = \"kafka:9092,${OTHER_HOST}:9092\"\n[event.fields]\nx = \"double\"\n";
    secret_in_a_bad_value: with("[store]\nurl = \"postgres://larum:${KAFKA_HOST}@db/larum\"\n");
    open_reference: "[kafka]\nevents = \"a\"\nbrokers = \"${KAFKA_HOST\"\n[event.fields]\nx = \"double\"\n";
    empty_by_variable: "[kafka]\nevents = \"a\"\ngroup = \"${EMPTY}\"\n[event.fields]\nx = \"double\"\n";
    bad_start: "[kafka]\nevents = \"a\"\nstart = \"yesterday\"\n[event.fields]\nx = \"double\"\n";
    client_option_of_larums_own: with("[kafka.client]\n\"enable.auto.commit\" = \"true\"\nacks = 1\ngroup.id = \"x\"\n");
    client_option_that_is_a_list: with("[kafka.client]\n\"ssl.ca.location\" = [1]\n");
    unknown_field_type: "[kafka]\nevents = \"a\"\n[event.fields]\nx = \"duoble\"\ny = \"decimal(3)\"\n";
    avro: with("").replace("[event.fields]", "[event]\nformat = \"avro\"\n[event.fields]");
    bad_duration: with("").replace("[event.fields]", "[event]\nlateness = \"5 minutes\"\n[event.fields]");
    file_and_sql: with("[features]\nfile = \"/dev/null\"\nsql = \"SELECT 1\"\n");
    query_file_that_is_not_there: with("[features]\nfile = \"no/such.sql\"\n");
    model_without_kind: with("[[models]]\nname = \"a\"\n");
    model_kind_misspelt: with("[[models]]\nkind = \"logistic_regresion\"\n");
    bad_nu: with("[[models]]\nkind = \"one_class_svm\"\nnu = 0\n");
    neighbours_and_share: with("[[models]]\nkind = \"nearest_neighbours\"\nneighbours = 3\nshare = 0.5\n");
    bad_share: with("[[models]]\nkind = \"nearest_neighbours\"\nshare = 40\n");
    neighbours_of_another_kind: with("[[models]]\nkind = \"isolation_forest\"\nneighbours = 3\n");
    kernel_that_is_none: with("[[models]]\nkind = \"svm\"\nkernel = \"cubic\"\n");
    bad_scope: with("[[models]]\nkind = \"marginal\"\nscope = \"host\"\n");
    scope_of_a_label_learner: with("[[models]]\nkind = \"svm\"\nscope = \"entity\"\n");
    key_of_another_kind: with("[[models]]\nkind = \"logistic_regression\"\nkernel = \"linear\"\n");
    duplicate_model_names: with("[[models]]\nname = \"a\"\nkind = \"svm\"\n[[models]]\nname = \"a\"\nkind = \"linear_regression\"\n");
    duplicate_models_without_names: with("[[models]]\nkind = \"svm\"\n[[models]]\nkind = \"svm\"\n");
    bad_model_name: with("[[models]]\nname = \"my model\"\nkind = \"svm\"\n");
    models_as_a_table: with("[models]\nkind = \"svm\"\n");
    two_decisions: with("[decision]\nalarm_budget = \"20/day\"\nthreshold = 0.9\n");
    bad_rate: with("[decision]\nalarm_budget = \"20\"\n");
    rate_of_one: with("[decision]\nfalse_alarm_rate = 1.0\n");
    threshold_nan: with("[decision]\nthreshold = nan\n");
    decision_key_of_a_feature: with("[decision]\nmin_change = 3\n");
    bad_direction: with("[decision.features.latency_ms]\ndirection = \"upwards\"\n");
    bad_change: with("[decision.features.latency_ms]\nmin_change = -1\nmin_relative_change = nan\nmin_chnge = 1\n");
    feature_rule_that_is_no_table: with("[decision.features]\nlatency_ms = 50\n");
    bad_quiet_period: with("[decision]\nquiet_period = \"ten minutes\"\n");
    bad_refit: with("[learning]\nrefit = \"daily\"\n");
    refit_of_few_labels: with("[learning]\nrefit = \"5 labels\"\n");
    postgres: with("[store]\nurl = \"postgres://localhost/larum\"\n");
    horizon_below_retention: with("[store]\nretention = \"100d\"\n");
    listen_to_everyone: with("[api]\nlisten = \"0.0.0.0:8080\"\n");
    listen_without_port: with("[api]\nlisten = \"127.0.0.1\"\n");
    limit_of_zero: with("[limits]\nentities = 0\nwindow_rows = -1\ncommit_ms = 1.5\nrequest_ms = 99999999999999999999\n");
    everything_at_once: "seed = -1\n[kafka]\nbroker = \"x\"\n[event]\nid = 3\n[[models]]\nkind = \"svn\"\n[api]\nlisten = \"${NOPE}\"\n";
}
