//! The store's promises: a commit is whole or absent, nothing is lost or doubled over segments, and restarts change nothing.

#![expect(clippy::unwrap_used, reason = "what the helpers cannot do fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use larum::features::{Column, ColumnKind, FeatureVector};
use larum::model::Label;
use larum::store::{
    Commit, Consumed, Filter, Joined, LabelCommit, LabelFilter, LabelSource, LabelState, Layout, Limits, ModelRow,
    PartitionCommit, QualityRow, ScoredRow, Snapshot, Store, StoreError, StoredPrediction, Verdict, Writer,
};
use tempfile::TempDir;

const HOUR_MS: i64 = 3_600_000;

fn columns(names: &[&str], kind: ColumnKind) -> Vec<Column> {
    names.iter().map(|name| Column { name: (*name).to_owned(), kind }).collect()
}

/// A database in a directory of its own.
struct Place {
    _directory: TempDir,
    url: String,
    path: std::path::PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("larum.db");
    Place { url: format!("sqlite:{}", path.display()), path, _directory: directory }
}

fn open_as(
    url: &str,
    numbers: &[&str],
    categories: &[&str],
    models: &[&str],
    limits: Limits,
) -> Result<(Store, Writer), StoreError> {
    let models: Vec<String> = models.iter().map(|name| (*name).to_owned()).collect();
    let (numbers, categories) = (columns(numbers, ColumnKind::Number), columns(categories, ColumnKind::Category));
    Store::open(url, Layout { numbers: &numbers, categories: &categories, models: &models }, limits)
}

/// Two numbers, a category, a model.
fn open(url: &str, limits: Limits) -> (Store, Writer) {
    open_as(url, &["latency", "bytes"], &["region"], &["covariance"], limits).unwrap()
}

/// Segments of ten rows.
fn small() -> Limits {
    Limits { segment_rows: 10, stored_rows_max: 1_000, ..Limits::default() }
}

fn row(partition: i32, offset: i64) -> ScoredRow {
    ScoredRow {
        event_id: format!("e-{partition}-{offset}"),
        topic: Arc::from("requests"),
        partition,
        offset,
        time_ms: offset * 1_000,
        entity: format!("host-{}", offset % 3),
        score: 0.25,
        p_value: 0.1,
        alarm: false,
        warmup: None,
        model_version: 7,
        scores: vec![Some(0.125)],
        features: FeatureVector {
            numbers: vec![offset as f64, 0.5].into(),
            categories: vec![Some("eu".into())].into(),
        },
        contributions: None,
    }
}

fn part(rows: Vec<ScoredRow>, partition: i32, expected_offset: Option<i64>, next_offset: i64) -> PartitionCommit {
    let topic = Arc::from("requests");
    PartitionCommit { topic, partition, expected_offset, next_offset, rows, adoption: None, snapshot: None }
}

fn commit_part(writer: &mut Writer, part: PartitionCommit) -> Result<(), StoreError> {
    writer.commit(&Commit { parts: vec![part], ..Commit::default() }).map(|_| ())
}

/// Commits rows `from..to` of partition 0, five at a time.
fn fill(writer: &mut Writer, from: i64, to: i64) {
    let mut at = from;
    while at < to {
        let next = (at + 5).min(to);
        let expected = (at > 0).then_some(at);
        commit_part(writer, part((at..next).map(|offset| row(0, offset)).collect(), 0, expected, next)).unwrap();
        at = next;
    }
}

/// Maintenance until there is none; (expired, evicted, moved) rows.
fn maintain(writer: &mut Writer, now_ms: i64) -> (u64, u64, u64) {
    let mut sum = (0, 0, 0);
    for _ in 0..10_000 {
        let step = writer.maintain(now_ms).unwrap();
        sum = (sum.0 + step.rows_expired, sum.1 + step.rows_evicted, sum.2 + step.rows_moved);
        if !step.more {
            return sum;
        }
    }
    panic!("maintenance does not come to an end");
}

fn get(store: &Store, event_id: &str) -> Option<StoredPrediction> {
    store.read(|reader| reader.prediction(event_id)).unwrap()
}

/// Every row that the filter finds, page by page.
fn pages(store: &Store, filter: &Filter) -> Vec<ScoredRow> {
    let mut filter = filter.clone();
    let mut rows = Vec::new();
    loop {
        let page = store.read(|reader| reader.predictions(&filter)).unwrap();
        assert!(page.rows.len() <= filter.limit, "a page of {}", page.rows.len());
        rows.extend(page.rows.into_iter().map(|stored| stored.row));
        match page.next_cursor {
            Some(cursor) => filter.cursor = Some(cursor),
            None => return rows,
        }
    }
}

fn verdict(event_id: &str, label: Option<Label>, offset: i64) -> Verdict {
    let source = LabelSource { topic: Arc::from("labels"), partition: 0, offset };
    Verdict { event_id: event_id.to_owned(), label, who: "ann".to_owned(), at_ms: offset, note: None, source }
}

fn commit_labels(writer: &mut Writer, labels: LabelCommit) -> larum::store::Committed {
    writer.commit(&Commit { labels, ..Commit::default() }).unwrap()
}

fn commit_verdicts(writer: &mut Writer, verdicts: Vec<Verdict>) -> larum::store::Committed {
    commit_labels(writer, LabelCommit { verdicts, ..LabelCommit::default() })
}

/// Counts rows as a person would, through the view.
fn count_in_view(place: &Place, condition: &str) -> i64 {
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.query_row(&format!("SELECT COUNT(*) FROM scored WHERE {condition}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn a_row_comes_back_bit_for_bit() {
    let place = place();
    let (store, mut writer) =
        open_as(&place.url, &["a", "b", "c", "d", "e", "f"], &["x", "y"], &["m", "n"], small()).unwrap();
    let numbers = [0.1 + 0.2, -0.0, 5e-324, 1e30, 3.0, f64::from_bits(0x3ff0_0000_0000_0001)];
    let stored = ScoredRow {
        alarm: true,
        score: 0.999_999_999_999_999_9,
        p_value: 2.3e-300,
        warmup: Some((3, 1_000)),
        scores: vec![Some(f64::MIN_POSITIVE), None],
        features: FeatureVector {
            numbers: numbers.into(),
            categories: vec![Some("Zürich 'q' \"d\"".into()), None].into(),
        },
        contributions: Some(vec![("z".to_owned(), 0.1), ("a \"b\"".to_owned(), -1e-17)]),
        ..row(0, 0)
    };
    commit_part(&mut writer, part(vec![stored.clone()], 0, None, 1)).unwrap();
    let found = get(&store, "e-0-0").unwrap();
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found.row.features.numbers), bits(&numbers));
    assert_eq!(found.row, stored);
    assert_eq!(found.columns.numbers, ["a", "b", "c", "d", "e", "f"]);
    assert_eq!((found.columns.categories.join(","), found.columns.models.join(",")), ("x,y".into(), "m,n".into()));
    assert_eq!(found.label, None);
}

#[test]
fn a_missing_feature_comes_back_missing() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    let features = FeatureVector { numbers: vec![f64::NAN, 2.0].into(), categories: vec![None].into() };
    commit_part(&mut writer, part(vec![ScoredRow { features, ..row(0, 0) }], 0, None, 1)).unwrap();
    let found = get(&store, "e-0-0").unwrap().row.features;
    assert!(found.numbers[0].is_nan());
    assert_eq!((found.numbers[1], found.categories[0].as_deref()), (2.0, None));
    assert_eq!(count_in_view(&place, "latency IS NULL AND bytes = 2"), 1);
}

#[test]
fn feature_names_may_be_anything() {
    let place = place();
    let numbers = ["p 95 \"ms\"", "größe", "Score", "a", "A", "rowid", "score:m", "time", "", "feature:time"];
    let (store, mut writer) = open_as(&place.url, &numbers, &["select", "layout"], &["m", "M"], small()).unwrap();
    let values: Vec<f64> = (0..numbers.len()).map(|n| n as f64 + 0.5).collect();
    let stored = ScoredRow {
        alarm: true,
        scores: vec![Some(0.1), Some(0.2)],
        features: FeatureVector { numbers: values.into(), categories: vec![Some("s".into()), Some("l".into())].into() },
        ..row(0, 0)
    };
    commit_part(&mut writer, part(vec![stored.clone()], 0, None, 1)).unwrap();
    assert_eq!(get(&store, "e-0-0").unwrap().row, stored);
    let condition = r#""p 95 ""ms""" = 0.5 AND "größe" = 1.5 AND "feature:Score" = 2.5 AND a = 3.5 AND score = 0.25
        AND "score:m" = 0.1 AND "select" = 's'"#;
    assert_eq!(count_in_view(&place, condition), 1);
    // Moved to the kept rows, it is still the same row.
    writer.maintain(0).unwrap();
    let (_, _, moved) = maintain(&mut writer, 8 * 24 * HOUR_MS);
    assert_eq!(moved, 1);
    assert_eq!(get(&store, "e-0-0").unwrap().row, stored);
    assert_eq!(count_in_view(&place, condition), 1);
}

#[test]
fn a_commit_is_refused_unless_the_partition_is_where_the_caller_thinks() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 0, 5);
    for expected in [None, Some(4), Some(6)] {
        // The first part is right; the second is not; neither is written.
        let parts = vec![part(vec![row(1, 0)], 1, None, 1), part(vec![row(0, 5)], 0, expected, 6)];
        let refused = writer.commit(&Commit { parts, ..Commit::default() }).unwrap_err();
        assert!(matches!(refused, StoreError::Fenced { partition: 0, stored: Some(5), .. }), "{refused}");
    }
    assert_eq!(get(&store, "e-1-0"), None);
    assert_eq!(store.read(|reader| reader.offset("requests", 1)).unwrap(), None);
    fill(&mut writer, 5, 6);
    assert!(get(&store, "e-0-5").is_some());
}

#[test]
fn a_failing_commit_leaves_nothing() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 0, 5);
    let before = store.read(|reader| reader.stats()).unwrap();
    // The second row has the first one's offset, which the primary key refuses after everything else has been written.
    let mut failing = part(vec![row(0, 5), ScoredRow { event_id: "twin".to_owned(), ..row(0, 5) }], 0, Some(5), 6);
    failing.adoption = Some(3);
    let labels = LabelCommit { verdicts: vec![verdict("e-0-5", Some(Label::Normal), 0)], ..LabelCommit::default() };
    let refused = writer.commit(&Commit { parts: vec![failing], labels, ..Commit::default() });
    assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
    assert_eq!((get(&store, "e-0-5"), get(&store, "twin")), (None, None));
    assert_eq!(store.read(|reader| reader.label("e-0-5")).unwrap(), None);
    assert_eq!(store.read(|reader| reader.stats()).unwrap(), before);
    assert_eq!(store.read(|reader| reader.load("requests", 0, 1)).unwrap().unwrap().adoptions, []);
    fill(&mut writer, 5, 8);
    assert!(get(&store, "e-0-5").is_some());
}

#[test]
fn what_was_committed_survives_a_crash_and_what_was_not_is_gone() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 0, 23);
    // The files as they are while the writer still has them open, half a transaction in the log: what a crash leaves.
    let conn = rusqlite::Connection::open(&place.path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE; UPDATE offsets SET scored_through = 99; DELETE FROM scored_3").unwrap();
    let crashed = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("larum.db{suffix}");
        std::fs::copy(place.path.with_file_name(&name), crashed.path().join(&name)).unwrap();
    }
    conn.execute_batch("ROLLBACK").unwrap();
    let url = format!("sqlite:{}", crashed.path().join("larum.db").display());
    let (recovered, mut again) = open(&url, small());
    assert_eq!(recovered.read(|reader| reader.offset("requests", 0)).unwrap(), Some(23));
    // The ids of the segments without an index are found again, the open one's and the full ones'.
    for offset in 0..23 {
        assert_eq!(get(&recovered, &format!("e-0-{offset}")).unwrap(), get(&store, &format!("e-0-{offset}")).unwrap());
    }
    fill(&mut again, 23, 30);
    assert_eq!(pages(&recovered, &Filter { limit: 4, ..Filter::default() }).len(), 30);
}

#[test]
fn one_database_has_one_writer() {
    let place = place();
    let (store, writer) = open(&place.url, small());
    let refused = open_as(&place.url, &["x"], &[], &[], small()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another larum"), "{refused}");
    drop((store, writer));
    open_as(&place.url, &["x"], &[], &[], small()).unwrap();
    for url in ["larum.db", "sqlite:", "mysql://x"] {
        assert!(matches!(open_as(url, &["x"], &[], &[], small()), Err(StoreError::Url { .. })), "{url}");
    }
    let nowhere = open_as("sqlite:/nowhere/at/all.db", &["x"], &[], &[], small());
    assert!(matches!(nowhere, Err(StoreError::Open { .. })), "{nowhere:?}");
}

#[test]
fn a_newer_schema_is_refused() {
    let place = place();
    drop(open(&place.url, small()));
    rusqlite::Connection::open(&place.path).unwrap().execute_batch("UPDATE meta SET schema_version = 1000").unwrap();
    let refused = open_as(&place.url, &["x"], &[], &[], small()).unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 1000, .. }), "{refused}");
}

#[test]
fn a_plan_edit_keeps_the_earlier_rows_under_their_names() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 0, 5);
    let before = get(&store, "e-0-3").unwrap();
    drop((store, writer));
    let (store, mut writer) = open_as(&place.url, &["bytes", "errors"], &[], &["svm"], small()).unwrap();
    let features = FeatureVector { numbers: vec![64.0, 2.0].into(), categories: vec![].into() };
    let edited = ScoredRow { features, ..row(0, 5) };
    commit_part(&mut writer, part(vec![edited.clone()], 0, Some(5), 6)).unwrap();
    assert_eq!(get(&store, "e-0-3").unwrap(), before);
    assert_eq!(get(&store, "e-0-5").unwrap().row, edited);
    assert_eq!(
        count_in_view(&place, "latency IS NOT NULL AND errors IS NULL AND region = 'eu' AND \"score:svm\" IS NULL"),
        5
    );
    assert_eq!(count_in_view(&place, "latency IS NULL AND errors = 2 AND bytes = 64 AND \"score:svm\" = 0.125"), 1);
    assert_eq!(pages(&store, &Filter { limit: 4, ..Filter::default() }).len(), 6);
    drop((store, writer));
    // Back to the first layout: the same columns again.
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 6, 7);
    assert_eq!(get(&store, "e-0-6").unwrap().columns, before.columns);
}

#[test]
fn pages_meet_every_row_once_in_order_while_segments_come_and_go() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    // Two partitions whose times interleave and repeat, so that neither time nor offset alone orders them.
    let at = |partition: i32, offset: i64| ScoredRow { time_ms: offset / 4 * 1_000, ..row(partition, offset) };
    for next in 1..=60 {
        let expected = (next > 1).then_some(next - 1);
        let parts = (0..2).map(|p| part(vec![at(p, next - 1)], p, expected, next)).collect();
        writer.commit(&Commit { parts, ..Commit::default() }).unwrap();
        if next % 20 == 0 {
            writer.maintain(0).unwrap(); // some segments open, some full, some sealed
        }
    }
    let mut filter = Filter { limit: 7, ..Filter::default() };
    let mut seen = Vec::new();
    for step in 0.. {
        let page = store.read(|reader| reader.predictions(&filter)).unwrap();
        seen.extend(page.rows.iter().map(|stored| (stored.row.time_ms, stored.row.partition, stored.row.offset)));
        let Some(cursor) = page.next_cursor else { break };
        filter.cursor = Some(cursor);
        if step == 3 {
            maintain(&mut writer, 0); // everything is indexed between two pages
        }
        if step == 5 {
            let newest = ScoredRow { time_ms: 1_000_000, ..row(0, 60) };
            commit_part(&mut writer, part(vec![newest], 0, Some(60), 61)).unwrap(); // newer than the cursor
        }
    }
    let mut expected: Vec<_> =
        (0..60).flat_map(|offset| (0..2).map(move |p| (offset / 4 * 1_000, p, offset))).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected);
    let wrong =
        store.read(|reader| reader.predictions(&Filter { cursor: Some("1.2".to_owned()), ..Filter::default() }));
    assert!(matches!(wrong, Err(StoreError::Cursor { .. })), "{wrong:?}");
}

#[test]
fn every_filter_finds_what_it_says_in_open_full_and_sealed_segments() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    let vary = |offset: i64| ScoredRow { score: (offset % 10) as f64 / 10.0, alarm: offset % 7 == 0, ..row(0, offset) };
    for next in 1..=45 {
        commit_part(&mut writer, part(vec![vary(next - 1)], 0, (next > 1).then_some(next - 1), next)).unwrap();
        if next == 25 {
            maintain(&mut writer, 0);
        }
    }
    let labels = [(3, Some(Label::Anomaly)), (14, Some(Label::Normal)), (40, Some(Label::Anomaly)), (41, None)];
    let verdicts = labels.iter().zip(0..).map(|((event, label), at)| verdict(&format!("e-0-{event}"), *label, at));
    commit_verdicts(&mut writer, verdicts.collect());
    let labelled = |offset: i64| [3, 14, 40].contains(&offset);
    type Check<'a> = (Filter, &'a dyn Fn(&ScoredRow) -> bool);
    let all = Filter { limit: 4, ..Filter::default() };
    let checks: [Check<'_>; 11] = [
        (all.clone(), &|_| true),
        (Filter { from_ms: Some(12_000), to_ms: Some(38_000), ..all.clone() }, &|row| (12..38).contains(&row.offset)),
        (Filter { entity: Some("host-1".to_owned()), ..all.clone() }, &|row| row.offset % 3 == 1),
        (Filter { min_score: Some(0.7), ..all.clone() }, &|row| row.score >= 0.7),
        (Filter { min_score: Some(0.2), ..all.clone() }, &|row| row.score >= 0.2),
        (Filter { alarm: Some(true), ..all.clone() }, &|row| row.alarm),
        (Filter { alarm: Some(false), from_ms: Some(20_000), ..all.clone() }, &|row| !row.alarm && row.offset >= 20),
        (Filter { label: Some(LabelFilter::Is(Label::Anomaly)), ..all.clone() }, &|row| [3, 40].contains(&row.offset)),
        (Filter { label: Some(LabelFilter::Labelled), ..all.clone() }, &|row| labelled(row.offset)),
        (Filter { label: Some(LabelFilter::Unlabelled), ..all.clone() }, &|row| !labelled(row.offset)),
        (
            Filter { alarm: Some(true), label: Some(LabelFilter::Labelled), entity: Some("host-2".to_owned()), ..all },
            &|row| row.offset == 14,
        ),
    ];
    for (filter, expected) in checks {
        let expected: Vec<i64> = (0..45).rev().map(vary).filter(expected).map(|row| row.offset).collect();
        assert!(!expected.is_empty());
        let found: Vec<i64> = pages(&store, &filter).iter().map(|row| row.offset).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[test]
fn retention_drops_ordinary_rows_and_keeps_alarms_and_labelled_ones_for_the_label_horizon() {
    let place = place();
    let limits = Limits { retention_ms: HOUR_MS, label_horizon_ms: 10 * HOUR_MS, ..small() };
    let (store, mut writer) = open(&place.url, limits);
    for offset in 0..33 {
        let row = ScoredRow { alarm: offset % 10 == 4, ..row(0, offset) };
        commit_part(&mut writer, part(vec![row], 0, (offset > 0).then_some(offset), offset + 1)).unwrap();
    }
    commit_verdicts(&mut writer, vec![verdict("e-0-7", Some(Label::Normal), 0)]);
    let (labelled, alarm) = (get(&store, "e-0-7").unwrap(), get(&store, "e-0-4").unwrap());
    assert_eq!(maintain(&mut writer, HOUR_MS), (0, 0, 0), "nothing is old yet");
    // The newest row of the first segment is 9 s old plus an hour at 3,609 s; not one second later than that.
    assert_eq!(maintain(&mut writer, HOUR_MS + 9_000), (0, 0, 0));
    assert_eq!(maintain(&mut writer, HOUR_MS + 9_001), (8, 0, 2));
    assert_eq!((get(&store, "e-0-7").unwrap(), get(&store, "e-0-4").unwrap()), (labelled, alarm));
    assert_eq!(get(&store, "e-0-3"), None);
    assert_eq!(count_in_view(&place, "1"), 25);
    assert_eq!(pages(&store, &Filter { limit: 4, ..Filter::default() }).len(), 25);
    // A quiet topic: its last segment is closed by age and goes too, once its rows are old.
    assert_eq!(maintain(&mut writer, 5 * HOUR_MS), (21, 0, 2));
    assert_eq!(pages(&store, &Filter { limit: 4, ..Filter::default() }).len(), 4);
    assert_eq!(maintain(&mut writer, 11 * HOUR_MS), (4, 0, 0));
    assert_eq!(count_in_view(&place, "1"), 0);
    fill(&mut writer, 33, 36);
    assert_eq!(count_in_view(&place, "1"), 3);
}

#[test]
fn stored_rows_are_bounded_and_the_oldest_go_first() {
    let place = place();
    let limits = Limits { stored_rows_max: 100, segment_rows: 10, ..Limits::default() };
    let (store, mut writer) = open(&place.url, limits);
    let mut evicted = 0;
    for start in (0..300).step_by(20) {
        fill(&mut writer, start, start + 20);
        evicted += maintain(&mut writer, 0).1;
    }
    let rows = pages(&store, &Filter { limit: 50, ..Filter::default() });
    assert!((80..=100).contains(&rows.len()), "{} rows", rows.len());
    assert_eq!(evicted + rows.len() as u64, 300);
    assert_eq!(rows.last().map(|row| row.offset), Some(300 - rows.len() as i64));
    assert_eq!(store.read(|reader| reader.stats()).unwrap().rows, rows.len() as u64);
}

#[test]
fn alarms_alone_cannot_fill_the_store() {
    let place = place();
    let limits = Limits { stored_rows_max: 100, segment_rows: 10, ..Limits::default() };
    let (store, mut writer) = open(&place.url, limits);
    for offset in 0..300 {
        let alarm = ScoredRow { alarm: true, ..row(0, offset) };
        commit_part(&mut writer, part(vec![alarm], 0, (offset > 0).then_some(offset), offset + 1)).unwrap();
        maintain(&mut writer, 0);
    }
    let stats = store.read(|reader| reader.stats()).unwrap();
    assert!(stats.rows + stats.rows_kept <= 100, "{stats:?}");
    assert!(stats.rows_kept > 0 && get(&store, "e-0-299").is_some());
}

#[test]
fn recovery_gets_the_snapshot_and_the_adoptions_from_it_on() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    let load = |store: &Store, plan_hash| store.read(|reader| reader.load("requests", 0, plan_hash)).unwrap();
    assert_eq!(load(&store, u64::MAX), None);
    let step = |writer: &mut Writer, expected, next, adoption, snapshot| {
        let part = PartitionCommit { adoption, snapshot, ..part(vec![], 0, expected, next) };
        commit_part(writer, part).unwrap();
    };
    let blob = |text: &str| Some(text.as_bytes().to_vec());
    let snapshot = |offset, plan_hash, parts: &[&str], entities| Snapshot {
        offset,
        plan_hash,
        parts: parts.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).collect(),
        entities,
    };
    step(&mut writer, None, 10, Some(1), None);
    step(&mut writer, Some(10), 20, Some(2), None);
    let entities =
        vec![("b".to_owned(), 5, blob("B1")), ("a".to_owned(), 7, blob("A1")), ("c".to_owned(), 6, blob("C1"))];
    step(&mut writer, Some(20), 30, Some(3), Some(snapshot(25, u64::MAX, &["models", "old"], entities)));
    step(&mut writer, Some(30), 40, Some(4), None);
    let first = load(&store, u64::MAX).unwrap();
    assert_eq!((first.snapshot_offset, first.scored_through), (Some(25), 40));
    assert_eq!(first.adoptions, [(20, 2), (30, 3), (40, 4)], "the one valid at 25 is that of 20");
    let names: Vec<_> = first.entities.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["b", "c", "a"]);
    // Parts are replaced whole, entities one by one.
    let entities = vec![("b".to_owned(), 9, blob("B2")), ("c".to_owned(), 9, None)];
    step(&mut writer, Some(40), 41, None, Some(snapshot(41, u64::MAX, &["models"], entities)));
    drop((store, writer));
    let (store, mut writer) = open(&place.url, small());
    let second = load(&store, u64::MAX).unwrap();
    assert_eq!(second.parts, [("models".to_owned(), b"models".to_vec())]);
    assert_eq!(second.entities, [("a".to_owned(), 7, b"A1".to_vec()), ("b".to_owned(), 9, b"B2".to_vec())]);
    assert_eq!((second.snapshot_offset, second.adoptions), (Some(41), vec![(40, 4)]));
    // Another plan: no state, but the place and the adoptions; and its snapshot forgets the earlier plan's entities.
    let other = load(&store, 3).unwrap();
    assert_eq!((other.snapshot_offset, other.scored_through, other.adoptions), (None, 41, vec![(40, 4)]));
    assert_eq!((other.parts.len(), other.entities.len()), (0, 0));
    step(&mut writer, Some(41), 42, None, Some(snapshot(42, 3, &[], vec![("z".to_owned(), 1, blob("Z"))])));
    assert_eq!(load(&store, 3).unwrap().entities.len(), 1);
    assert_eq!(load(&store, u64::MAX).unwrap().snapshot_offset, None);
}

#[test]
fn a_later_verdict_corrects_and_the_same_one_again_changes_nothing() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 0, 5);
    let first = verdict("e-0-1", Some(Label::Anomaly), 10);
    assert_eq!(commit_verdicts(&mut writer, vec![first.clone(), first.clone()]).verdicts, 1);
    let joined = |source: &LabelSource| LabelCommit {
        joined: vec![Joined { event_id: "e-0-1".to_owned(), source: source.clone() }],
        ..LabelCommit::default()
    };
    commit_labels(&mut writer, joined(&first.source));
    let label = |store: &Store| store.read(|reader| reader.label("e-0-1")).unwrap().unwrap();
    assert_eq!(label(&store).state, LabelState::Joined);
    // Read again after a crash: the joined label stays as it is.
    let earlier = verdict("e-0-1", Some(Label::Normal), 9);
    assert_eq!(commit_verdicts(&mut writer, vec![first.clone(), earlier]).verdicts, 0);
    assert_eq!((label(&store).state, label(&store).verdict.label), (LabelState::Joined, Some(Label::Anomaly)));
    // A correction has to be joined again, and a late acknowledgement of the first does not pass for it.
    let correction = verdict("e-0-1", None, 11);
    assert_eq!(commit_verdicts(&mut writer, vec![correction.clone()]).verdicts, 1);
    commit_labels(&mut writer, joined(&first.source));
    assert_eq!(label(&store).state, LabelState::Pending);
    assert_eq!(label(&store).verdict, correction);
    assert_eq!(store.read(|reader| reader.pending_with_event(10)).unwrap().len(), 1, "a revocation is joined too");
    commit_labels(&mut writer, joined(&correction.source));
    assert_eq!(store.read(|reader| reader.pending_with_event(10)).unwrap().len(), 0);
    assert_eq!(get(&store, "e-0-1").unwrap().label, Some(label(&store)));
}

#[test]
fn a_label_meets_its_event_whichever_comes_first() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    let ready = |store: &Store, limit| {
        let pairs = store.read(|reader| reader.pending_with_event(limit)).unwrap();
        pairs.into_iter().map(|(label, stored)| (label.verdict.event_id, stored.row.offset)).collect::<Vec<_>>()
    };
    fill(&mut writer, 0, 12);
    let late = vec![verdict("e-0-15", Some(Label::Anomaly), 0), verdict("e-0-2", Some(Label::Normal), 1)];
    commit_verdicts(&mut writer, late);
    assert_eq!(ready(&store, 10), [("e-0-2".to_owned(), 2)]);
    drop((store, writer)); // what waits is remembered
    let (store, mut writer) = open(&place.url, small());
    fill(&mut writer, 12, 15);
    assert_eq!(ready(&store, 10).len(), 1);
    // The verdict and its event in one commit.
    let labels = LabelCommit { verdicts: vec![verdict("e-0-16", Some(Label::Normal), 2)], ..LabelCommit::default() };
    let parts = vec![part((15..17).map(|offset| row(0, offset)).collect(), 0, Some(15), 17)];
    writer.commit(&Commit { parts, labels, ..Commit::default() }).unwrap();
    assert_eq!(ready(&store, 10), [("e-0-15".to_owned(), 15), ("e-0-2".to_owned(), 2), ("e-0-16".to_owned(), 16)]);
    assert_eq!(ready(&store, 2).len(), 2);
}

#[test]
fn waiting_labels_expire_and_are_bounded() {
    let place = place();
    let limits = Limits { pending_labels_max: 3, labels_max: 4, label_horizon_ms: 100, ..small() };
    let (store, mut writer) = open(&place.url, limits);
    let verdicts = (0..5).map(|at| verdict(&format!("ghost-{at}"), Some(Label::Anomaly), at)).collect();
    let committed = commit_verdicts(&mut writer, verdicts);
    assert_eq!((committed.verdicts, committed.pending_evicted, committed.labels_evicted), (5, 2, 1));
    let counts = |store: &Store| store.read(|reader| reader.label_counts()).unwrap();
    assert_eq!((counts(&store).pending, counts(&store).expired, counts(&store).anomaly), (3, 1, 4));
    assert_eq!(writer.maintain(103).unwrap().labels_expired, 1, "those from before 3");
    assert_eq!(writer.maintain(1_000).unwrap().labels_expired, 2);
    let state = store.read(|reader| reader.label("ghost-4")).unwrap().map(|label| label.state);
    assert_eq!(state, Some(LabelState::Expired));
}

#[test]
fn the_labels_topic_has_its_offset_in_the_same_transaction() {
    let place = place();
    let (store, mut writer) = open(&place.url, small());
    let consumed = |expected_offset, next_offset| {
        vec![Consumed { topic: Arc::from("labels"), partition: 0, expected_offset, next_offset }]
    };
    let labels =
        |consumed, at| LabelCommit { verdicts: vec![verdict("x", None, at)], consumed, ..LabelCommit::default() };
    commit_labels(&mut writer, labels(consumed(None, 1), 0));
    let stale = Commit { labels: labels(consumed(None, 2), 1), ..Commit::default() };
    assert!(matches!(writer.commit(&stale), Err(StoreError::Fenced { stored: Some(1), .. })));
    assert_eq!(store.read(|reader| reader.label("x")).unwrap().unwrap().verdict.source.offset, 0);
    assert_eq!(store.read(|reader| reader.offset("labels", 0)).unwrap(), Some(1));
}

#[test]
fn models_and_their_quality_are_remembered() {
    let (store, mut writer) = open("sqlite::memory:", small());
    let model = |version| ModelRow {
        name: "svm".to_owned(),
        version,
        kind: "svm".to_owned(),
        at_ms: version,
        parameters: "{}".to_owned(),
    };
    let quality =
        |at_ms, value| QualityRow { name: "svm".to_owned(), version: 1, at_ms, metric: "auc".to_owned(), value };
    for version in 0..150 {
        writer.commit(&Commit { models: vec![model(version)], ..Commit::default() }).unwrap();
    }
    writer.commit(&Commit { quality: vec![quality(1, 0.5), quality(2, f64::NAN)], ..Commit::default() }).unwrap();
    let current = store.read(|reader| reader.models(None)).unwrap();
    assert_eq!(current, [model(149)]);
    assert_eq!(store.read(|reader| reader.models(Some("svm"))).unwrap().len(), 100);
    let measured = store.read(|reader| reader.quality("svm", 10)).unwrap();
    assert!(measured[0].value.is_nan() && measured[1] == quality(1, 0.5) && measured.len() == 2);
}

#[test]
fn readers_on_other_threads_see_whole_commits_while_the_writer_works() {
    let place = place();
    for url in ["sqlite::memory:", place.url.as_str()] {
        let (store, mut writer) = open(url, small());
        fill(&mut writer, 0, 5);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reading: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut looks = 0;
                        while !done.load(std::sync::atomic::Ordering::Relaxed) || looks == 0 {
                            let rows = pages(&store, &Filter { limit: 1_000, ..Filter::default() });
                            let offsets: BTreeSet<i64> = rows.iter().map(|row| row.offset).collect();
                            assert_eq!(
                                (offsets.len(), rows.len() % 5),
                                (rows.len(), 0),
                                "half a commit, or a row twice"
                            );
                            let newest = rows[0].event_id.clone();
                            assert_eq!(get(&store, &newest).unwrap().row, rows[0]);
                            looks += 1;
                        }
                        looks
                    })
                })
                .collect();
            for start in (5..300).step_by(5) {
                fill(&mut writer, start, start + 5);
                writer.maintain(0).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(reading.into_iter().all(|reader| reader.join().unwrap() > 0));
        });
        assert_eq!(pages(&store, &Filter { limit: 1_000, ..Filter::default() }).len(), 300);
    }
}
