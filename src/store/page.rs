//! Pages of stored rows, newest first: which rows, in which order, and where the next page begins.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::find::Located;
use super::segments::{self, Segment, SegmentState};
use super::{StoreError, StoredPrediction, labels};
use crate::model::Label;

/// Which rows; by default all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Event times from this one on.
    pub from_ms: Option<i64>,
    /// Event times before this one.
    pub to_ms: Option<i64>,
    pub entity: Option<String>,
    /// From .5 on, and for alarms, only the few rows that qualify are looked at.
    pub min_score: Option<f64>,
    pub alarm: Option<bool>,
    pub label: Option<LabelFilter>,
    /// Rows of the page; 0 or more than `page_rows_max` means `page_rows_max`.
    pub limit: usize,
    /// [`Page::next_cursor`] of the page before.
    pub cursor: Option<String>,
}

/// Which labels; a revoked label counts as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelFilter {
    Is(Label),
    Labelled,
    Unlabelled,
}

/// Some rows, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub rows: Vec<StoredPrediction>,
    /// Opaque; None on the last page.
    pub next_cursor: Option<String>,
}

/// What rows are ordered by: time, topic, partition, offset. It stays the same wherever the row is moved to.
pub(super) type Key = (i64, String, i32, i64);

pub(super) fn cursor(key: &Key) -> String {
    format!("{}.{}.{}.{}", key.0, key.2, key.3, key.1)
}

fn parse(cursor: &str) -> Result<Key, StoreError> {
    let mut parts = cursor.splitn(4, '.');
    let mut next = || parts.next();
    let key = (|| {
        let (time, partition, offset) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        Some((time, next()?.to_owned(), partition, offset))
    })();
    key.ok_or_else(|| StoreError::Cursor { cursor: cursor.to_owned() })
}

/// The rows of the page and, if there are more, one more.
pub(super) fn find(
    conn: &Connection,
    all: &[Segment],
    filter: &Filter,
    limit: usize,
) -> Result<Vec<(Key, Located)>, StoreError> {
    let after = filter.cursor.as_deref().map(parse).transpose()?;
    let mut sources: Vec<(i64, Option<&Segment>)> = all
        .iter()
        .filter_map(|segment| {
            let (min, max) = segment.times?;
            let before = filter.to_ms.is_none_or(|to| min < to) && after.as_ref().is_none_or(|after| min <= after.0);
            (before && filter.from_ms.is_none_or(|from| max >= from)).then_some((max, Some(segment)))
        })
        .collect();
    sources.push((i64::MAX, None));
    sources.sort_by_key(|(max, _)| std::cmp::Reverse(*max));
    let mut found: Vec<(Key, Located)> = Vec::new();
    for (max, segment) in sources {
        if found.len() > limit && max < found[limit].0.0 {
            break; // this segment and those after it hold only older rows
        }
        found.extend(query(conn, segment, filter, after.as_ref(), limit + 1)?);
        found.sort_by(|a, b| b.0.cmp(&a.0));
        found.truncate(limit + 1);
    }
    Ok(found)
}

fn query(
    conn: &Connection,
    segment: Option<&Segment>,
    filter: &Filter,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<(Key, Located)>, StoreError> {
    let table = segment.map_or_else(|| "scored_kept".to_owned(), Segment::table);
    let is_indexed = segment.is_none_or(|segment| segment.state == SegmentState::Sealed);
    let mut terms: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut term = |sql: &str, new: Vec<Value>| {
        terms.push(sql.to_owned());
        values.extend(new);
    };
    let is_notable = filter.alarm == Some(true) || filter.min_score.is_some_and(|score| score >= 0.5);
    let index = if is_notable {
        term(segments::NOTABLE, vec![]);
        Some("notable")
    } else if !is_indexed {
        None
    } else if filter.entity.is_some() {
        Some("entity")
    } else if matches!(filter.label, Some(LabelFilter::Is(_) | LabelFilter::Labelled)) {
        Some("event")
    } else {
        Some("time")
    };
    if let Some(from) = filter.from_ms {
        term("time >= ?", vec![from.into()]);
    }
    if let Some(to) = filter.to_ms {
        term("time < ?", vec![to.into()]);
    }
    if let Some(entity) = &filter.entity {
        term("entity = ?", vec![entity.clone().into()]);
    }
    if let Some(score) = filter.min_score {
        term("score >= ?", vec![score.into()]);
    }
    if let Some(alarm) = filter.alarm {
        term("alarm = ?", vec![i64::from(alarm).into()]);
    }
    match filter.label {
        None => {}
        Some(LabelFilter::Is(label)) => term(
            "event_id IN (SELECT event_id FROM labels WHERE label = ?)",
            vec![labels::name(label).to_owned().into()],
        ),
        Some(LabelFilter::Labelled) => {
            term("event_id IN (SELECT event_id FROM labels WHERE label IS NOT NULL)", vec![])
        }
        Some(LabelFilter::Unlabelled) => {
            term("event_id NOT IN (SELECT event_id FROM labels WHERE label IS NOT NULL)", vec![]);
        }
    }
    if let Some((time, topic, partition, offset)) = after {
        let place = vec![(*time).into(), topic.clone().into(), i64::from(*partition).into(), (*offset).into()];
        term("time <= ?", vec![(*time).into()]);
        term("(time, topic, partition, \"offset\") < (?, ?, ?, ?)", place);
    }
    let index = index.map(|index| format!("INDEXED BY {table}_{index}")).unwrap_or_default();
    let condition = if terms.is_empty() { "1".to_owned() } else { terms.join(" AND ") };
    let sql = format!(
        "SELECT time, topic, partition, \"offset\", rowid FROM {table} {index} WHERE {condition}
         ORDER BY time DESC, topic DESC, partition DESC, \"offset\" DESC LIMIT {limit}"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        let key = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let layout = segment.map(|segment| segment.layout);
        Ok((key, Located { table: table.clone(), layout, row: row.get(4)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
