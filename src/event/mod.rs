//! Bytes -> [`Event`]: typed fields, a time, an entity. Nothing here knows Kafka or SQL.

mod decode;
mod json;
mod reason;
mod schema;
pub mod time;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, FUTURE_MS_MAX, NUMBER_MAX};
pub use reason::{DETAIL_CHARS_MAX, Reason, Rejection};
pub use schema::{Schema, SchemaError};

use std::borrow::Cow;

/// The type of a declared field, by its SQL name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    String,
    Double,
    Bigint,
    Boolean,
    Timestamp,
}

/// One declared field of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: FieldType,
    /// Declared `not null`: an event without it is a dead letter. Otherwise an absent field is NULL.
    pub required: bool,
}

/// A typed SQL value. Text borrows from the record where it can.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Null,
    Double(f64),
    Bigint(i64),
    Boolean(bool),
    /// Milliseconds since the Unix epoch, UTC.
    Timestamp(i64),
    Text(Cow<'a, str>),
}

/// One record as the caller has it, before decoding. `offset` and `timestamp_ms` are Kafka's.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
}

/// One decoded record.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// The configured id field, or `topic-partition-offset`.
    pub id: Cow<'a, str>,
    /// The configured time field, or Kafka's timestamp. Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The configured entity field, or the record's key as text, or "".
    pub entity: Cow<'a, str>,
    /// The fields that the plan names, in the order of `Plan::inputs`.
    pub fields: Vec<Value<'a>>,
}

/// How records become events: the `[event]` table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSpec {
    pub id: Option<String>,
    pub time: Option<String>,
    pub entity: Option<String>,
    pub fields: Vec<Field>,
    /// An event this much older than its entity's newest is scored, but enters no window.
    pub lateness_ms: i64,
    pub bytes_max: usize,
    pub depth_max: usize,
}
