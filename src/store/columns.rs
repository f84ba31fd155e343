//! Which column of a segment holds which feature or model score, and the SQL that follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{Layout, StoreError};

/// The columns that every scored row has, in the order in which they are bound and read.
pub(super) const BASE: [(&str, &str); 13] = [
    ("event_id", "TEXT NOT NULL"),
    ("topic", "TEXT NOT NULL"),
    ("partition", "INTEGER NOT NULL"),
    ("offset", "INTEGER NOT NULL"),
    ("time", "INTEGER NOT NULL"),
    ("entity", "TEXT NOT NULL"),
    ("score", "REAL NOT NULL"),
    ("p_value", "REAL NOT NULL"),
    ("alarm", "INTEGER NOT NULL"),
    ("warmup_seen", "INTEGER"),
    ("warmup_needed", "INTEGER"),
    ("model_version", "INTEGER NOT NULL"),
    ("contributions", "TEXT"),
];

/// Names that a feature's column must not take: SQLite's row number, and the layout of a kept row.
const RESERVED: [&str; 4] = ["rowid", "oid", "_rowid_", "layout"];

/// SQLite's compiled-in bound.
pub(super) const COLUMNS_MAX: usize = 2000;

/// The names of the values in a stored row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredColumns {
    /// Names of `features.numbers`.
    pub numbers: Vec<String>,
    /// Names of `features.categories`.
    pub categories: Vec<String>,
    /// Names of `scores`.
    pub models: Vec<String>,
    /// The table columns of scores, numbers and categories, in this order.
    pub(super) columns: Vec<String>,
}

impl StoredColumns {
    /// Every value's key, in the order of `columns`: models and features are two name spaces.
    fn keys(&self) -> impl Iterator<Item = (bool, &String)> {
        let features = self.numbers.iter().chain(&self.categories).map(|name| (false, name));
        self.models.iter().map(|name| (true, name)).chain(features)
    }

    /// The columns of a select or an insert: the base, then this layout's.
    pub(super) fn list(&self) -> String {
        let base = BASE.iter().map(|(name, _)| quoted(name));
        base.chain(self.columns.iter().map(|name| quoted(name))).collect::<Vec<_>>().join(", ")
    }

    /// The body of CREATE TABLE. Features have no declared type: REAL would turn -0.0 into 0.
    pub(super) fn definition(&self) -> String {
        let base = BASE.iter().map(|(name, kind)| format!("{} {kind}", quoted(name)));
        base.chain(self.columns.iter().map(|name| quoted(name))).collect::<Vec<_>>().join(", ")
    }
}

/// An SQL identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Every layout that a stored row may have, by its id.
pub(super) type Layouts = BTreeMap<i64, Arc<StoredColumns>>;

pub(super) fn layouts(conn: &Connection) -> Result<Layouts, StoreError> {
    let mut statement = conn.prepare_cached("SELECT id, columns FROM layouts ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut layouts = Layouts::new();
    for row in rows {
        let (id, text) = row?;
        let columns =
            serde_json::from_str(&text).map_err(|error| StoreError::corrupt(format!("layout {id}: {error}")))?;
        layouts.insert(id, Arc::new(columns));
    }
    Ok(layouts)
}

/// The id of this layout; a new one is written, and its columns are added to the kept rows.
pub(super) fn register(conn: &Connection, layout: &Layout<'_>) -> Result<(i64, Arc<StoredColumns>), StoreError> {
    let earlier = layouts(conn)?;
    let wanted = assign(layout, &earlier);
    if let Some((id, columns)) = earlier.iter().find(|(_, columns)| ***columns == wanted) {
        return Ok((*id, Arc::clone(columns)));
    }
    let mut statement = conn.prepare("SELECT name FROM pragma_table_info('scored_kept')")?;
    let kept = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<BTreeSet<_>, _>>()?;
    let added: Vec<&String> = wanted.columns.iter().filter(|column| !kept.contains(*column)).collect();
    let columns = kept.len() + added.len();
    if columns > COLUMNS_MAX {
        return Err(StoreError::Columns { columns, columns_max: COLUMNS_MAX });
    }
    for column in added {
        conn.execute_batch(&format!("ALTER TABLE scored_kept ADD COLUMN {}", quoted(column)))?;
    }
    let text = serde_json::to_string(&wanted).expect("strings serialise");
    conn.execute("INSERT INTO layouts(columns) VALUES (?1)", params![text])?;
    Ok((conn.last_insert_rowid(), Arc::new(wanted)))
}

/// A column for every value: the one it has had before, or its name, or, where that is taken (SQLite does not tell `A` from
/// `a`), a name derived from it.
fn assign(layout: &Layout<'_>, earlier: &Layouts) -> StoredColumns {
    let names = |columns: &[crate::features::Column]| columns.iter().map(|column| column.name.clone()).collect();
    let mut wanted = StoredColumns {
        numbers: names(layout.numbers),
        categories: names(layout.categories),
        models: layout.models.to_vec(),
        columns: Vec::new(),
    };
    let mut known = BTreeMap::new();
    for columns in earlier.values() {
        known.extend(columns.keys().zip(&columns.columns));
    }
    let mut taken: BTreeSet<String> = BASE.iter().map(|(name, _)| *name).chain(RESERVED).map(str::to_owned).collect();
    taken.extend(known.values().map(|column| column.to_ascii_lowercase()));
    let mut columns = Vec::new();
    for key in wanted.keys() {
        let column = known.get(&key).map_or_else(|| free(key.0, key.1, &taken), |column| (*column).clone());
        taken.insert(column.to_ascii_lowercase());
        columns.push(column);
    }
    wanted.columns = columns;
    wanted
}

fn free(is_model: bool, name: &str, taken: &BTreeSet<String>) -> String {
    let name = name.replace('\0', "\u{fffd}"); // SQL text ends at a NUL
    let is_free = |column: &String| !column.is_empty() && !taken.contains(&column.to_ascii_lowercase());
    let prefixed = if is_model { format!("score:{name}") } else { format!("feature:{name}") };
    let plain = if is_model { prefixed.clone() } else { name };
    let numbered = (2..).map(|n| format!("{prefixed}:{n}"));
    [plain, prefixed.clone()].into_iter().chain(numbered).find(is_free).expect("the numbers do not end")
}

/// Makes the view `scored` anew, over the kept rows and these segments (id, layout).
pub(super) fn create_view(conn: &Connection, segments: &[(i64, i64)], newest: i64) -> Result<(), StoreError> {
    let layouts = layouts(conn)?;
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    // The columns of today first, then what only earlier layouts had.
    for columns in layouts.get(&newest).into_iter().chain(layouts.values().rev()) {
        names.extend(columns.columns.iter().map(String::as_str).filter(|name| seen.insert(*name)));
    }
    let term = |table: &str, has: &dyn Fn(&str) -> bool| {
        let base = BASE.iter().map(|(name, _)| quoted(name));
        let own = names.iter().map(|name| if has(name) { quoted(name) } else { "NULL".to_owned() });
        format!("SELECT {} FROM {table}", base.chain(own).collect::<Vec<_>>().join(", "))
    };
    let mut terms = vec![term("scored_kept", &|_| true)];
    for (id, layout) in segments {
        let columns = layouts.get(layout).ok_or_else(|| StoreError::corrupt(format!("no layout {layout}")))?;
        let own: BTreeSet<&str> = columns.columns.iter().map(String::as_str).collect();
        terms.push(term(&format!("scored_{id}"), &|name| own.contains(name)));
    }
    let all = BASE.iter().map(|(name, _)| *name).chain(names.iter().copied()).map(quoted).collect::<Vec<_>>();
    conn.execute_batch(&format!(
        "DROP VIEW IF EXISTS scored; CREATE VIEW scored({}) AS {}",
        all.join(", "),
        terms.join(" UNION ALL ")
    ))?;
    Ok(())
}
