//! What the store remembers of the models, for people to query: their versions and how good they were.

use rusqlite::{Connection, params};

use super::StoreError;

/// Versions kept by model; the oldest goes first.
const MODEL_VERSIONS_MAX: i64 = 100;

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    pub name: String,
    /// A label-log offset; 0 for models that learn from no label.
    pub version: i64,
    pub kind: String,
    pub at_ms: i64,
    /// JSON: parameters by feature name, labels seen, state size.
    pub parameters: String,
}

/// One measurement of a model's prequential quality.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityRow {
    pub name: String,
    pub version: i64,
    pub at_ms: i64,
    pub metric: String,
    /// NaN where the metric is not defined yet.
    pub value: f64,
}

pub(super) fn write(conn: &Connection, models: &[ModelRow], quality: &[QualityRow]) -> Result<(), StoreError> {
    for model in models {
        conn.prepare_cached(
            "INSERT OR REPLACE INTO models(name, version, kind, at_ms, parameters) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![model.name, model.version, model.kind, model.at_ms, model.parameters])?;
        conn.prepare_cached(
            "DELETE FROM models WHERE name = ?1 AND version NOT IN
             (SELECT version FROM models WHERE name = ?1 ORDER BY version DESC LIMIT ?2)",
        )?
        .execute(params![model.name, MODEL_VERSIONS_MAX])?;
    }
    for row in quality {
        conn.prepare_cached(
            "INSERT OR REPLACE INTO model_quality(name, version, at_ms, metric, value) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![row.name, row.version, row.at_ms, row.metric, row.value])?;
    }
    Ok(())
}

/// The newest version of every model, or every kept version of one, newest first.
pub(super) fn read(conn: &Connection, name: Option<&str>) -> Result<Vec<ModelRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT name, version, kind, at_ms, parameters FROM models
         WHERE CASE WHEN ?1 IS NULL THEN (name, version) IN (SELECT name, MAX(version) FROM models GROUP BY name)
                    ELSE name = ?1 END
         ORDER BY name, version DESC",
    )?;
    let rows = statement.query_map(params![name], |row| {
        Ok(ModelRow {
            name: row.get(0)?,
            version: row.get(1)?,
            kind: row.get(2)?,
            at_ms: row.get(3)?,
            parameters: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The newest measurements of one model, newest first.
pub(super) fn quality(conn: &Connection, name: &str, limit: u32) -> Result<Vec<QualityRow>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT name, version, at_ms, metric, value FROM model_quality WHERE name = ?1
         ORDER BY at_ms DESC, metric LIMIT ?2",
    )?;
    let rows = statement.query_map(params![name, limit], |row| {
        Ok(QualityRow {
            name: row.get(0)?,
            version: row.get(1)?,
            at_ms: row.get(2)?,
            metric: row.get(3)?,
            value: row.get::<_, Option<f64>>(4)?.unwrap_or(f64::NAN),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
