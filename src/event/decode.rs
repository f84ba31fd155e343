//! JSON bytes or typed cells -> [`Event`], by one set of rules; only the fields that somebody needs are looked at.

use crate::event::reason::shorten;
use crate::event::time::{TIME_MS_MAX, TIME_MS_MIN, parse_rfc3339};
use crate::event::{Event, EventSpec, Field, FieldType, Reason, Record, Rejection, Schema, SchemaError, Value, json};
use std::borrow::Cow;

/// How far an event's time may lie ahead of its Kafka timestamp.
pub const FUTURE_MS_MAX: i64 = 5 * 60 * 1_000;
/// Beyond this magnitude no number reaches a model: squares and sums of a million of them stay finite.
pub const NUMBER_MAX: f64 = 1e30;

/// Turns records into events. Immutable and cheap to share.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The inputs of the plan in its order, then what else must be present.
    slots: Vec<Field>,
    /// One per slot.
    tags: Vec<u32>,
    inputs: usize,
    id: Option<usize>,
    time: Option<usize>,
    entity: Option<usize>,
    bytes_max: usize,
    depth_max: usize,
}

impl Decoder {
    /// `inputs`: the fields that end up in [`Event::fields`], as `Plan::inputs` names them.
    pub fn new(spec: &EventSpec, inputs: &[String]) -> Result<Self, SchemaError> {
        let schema = Schema::new(spec)?;
        let mut slots = Vec::new();
        for name in inputs {
            slots.push(schema.field(name).cloned().ok_or_else(|| SchemaError::Unknown(name.clone()))?);
        }
        for field in schema.fields().iter().filter(|f| f.required && !inputs.contains(&f.name)) {
            slots.push(field.clone());
        }
        let slot = |name: &Option<String>| name.as_ref().and_then(|n| slots.iter().position(|f| f.name == *n));
        let (id, time, entity) = (slot(&spec.id), slot(&spec.time), slot(&spec.entity));
        let tags = slots.iter().map(|field| json::tag(&field.name)).collect();
        Ok(Self {
            slots,
            tags,
            inputs: inputs.len(),
            id,
            time,
            entity,
            bytes_max: spec.bytes_max,
            depth_max: spec.depth_max,
        })
    }

    /// Decodes one JSON record. A negative `timestamp_ms` means that the record has none. Of a key that comes twice, the last wins.
    pub fn decode<'a>(&self, topic: &str, partition: i32, record: &Record<'a>) -> Result<Event<'a>, Rejection> {
        let payload = record.payload.unwrap_or_default();
        if payload.trim_ascii().is_empty() {
            return Err(Rejection::new(Reason::Empty, "the record has no payload"));
        }
        if payload.len() > self.bytes_max {
            let detail = format!("the record has {} bytes; at most {} are read", payload.len(), self.bytes_max);
            return Err(Rejection::new(Reason::TooLarge, detail));
        }
        if json::is_too_deep(payload, self.depth_max) {
            let detail = format!("objects and arrays are nested more than {} deep", self.depth_max);
            return Err(Rejection::new(Reason::TooDeep, detail));
        }
        let values = json::read(payload, &self.slots, &self.tags)?;
        self.assemble(topic, partition, record, values)
    }

    /// Makes an event of values that are already typed, such as the cells of a CSV row, by the rules of [`Decoder::decode`]:
    /// `value_of` is asked once for every field that is needed. A timestamp may come as RFC 3339 text. The payload is ignored.
    pub fn decode_fields<'a>(
        &self,
        topic: &str,
        partition: i32,
        record: &Record<'a>,
        value_of: &mut dyn FnMut(&Field) -> Value<'a>,
    ) -> Result<Event<'a>, Rejection> {
        let values = self.slots.iter().map(|field| admit(field, value_of(field))).collect::<Result<_, _>>()?;
        self.assemble(topic, partition, record, values)
    }

    /// Whether the time comes from a field; otherwise it is the record's timestamp.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.time.is_some()
    }

    /// The fields that a record is asked for: the inputs, then the other required ones.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.slots
    }

    fn assemble<'a>(
        &self,
        topic: &str,
        partition: i32,
        record: &Record<'a>,
        mut values: Vec<Value<'a>>,
    ) -> Result<Event<'a>, Rejection> {
        for (field, value) in self.slots.iter().zip(&values) {
            if field.required && *value == Value::Null {
                let detail = format!("field `{}` is absent or null; a {} is required", field.name, field.kind);
                return Err(Rejection::new(Reason::MissingField, detail));
            }
        }
        let time_ms = match self.time.map(|slot| &values[slot]) {
            Some(Value::Timestamp(ms)) => *ms,
            _ => record.timestamp_ms,
        };
        if self.time.is_none() && !(0..=TIME_MS_MAX).contains(&time_ms) {
            let detail = format!("the Kafka timestamp is {time_ms} and no time field is configured");
            return Err(Rejection::new(Reason::BadTime, detail));
        }
        if record.timestamp_ms >= 0 && time_ms.saturating_sub(record.timestamp_ms) > FUTURE_MS_MAX {
            let detail = format!(
                "the event's time {time_ms} is more than {FUTURE_MS_MAX} ms ahead of its Kafka timestamp {}",
                record.timestamp_ms
            );
            return Err(Rejection::new(Reason::FromTheFuture, detail));
        }
        let id = match self.id {
            Some(slot) => text_of(&values[slot]),
            None => Cow::Owned(format!("{topic}-{partition}-{}", record.offset)),
        };
        let entity = match (self.entity, record.key) {
            (Some(slot), _) => text_of(&values[slot]),
            (None, Some(key)) => String::from_utf8_lossy(key),
            (None, None) => Cow::Borrowed(""),
        };
        values.truncate(self.inputs);
        Ok(Event { id, time_ms, entity, fields: values })
    }
}

/// An id or entity as text; the schema lets only strings and bigints be one.
fn text_of<'a>(value: &Value<'a>) -> Cow<'a, str> {
    match value {
        Value::Text(text) => text.clone(),
        Value::Bigint(n) => Cow::Owned(n.to_string()),
        other => unreachable!("the schema refuses {other:?} as id or entity"),
    }
}

/// The value as the field's type, or why not.
pub(super) fn admit<'a>(field: &Field, value: Value<'a>) -> Result<Value<'a>, Rejection> {
    match (field.kind, value) {
        (_, Value::Null) => Ok(Value::Null),
        (FieldType::String, value @ Value::Text(_))
        | (FieldType::Boolean, value @ Value::Boolean(_))
        | (FieldType::Bigint, value @ Value::Bigint(_)) => Ok(value),
        (FieldType::Double, Value::Bigint(n)) => Ok(Value::Double(n as f64)),
        (FieldType::Double, Value::Double(x)) => match x {
            _ if x.abs() <= NUMBER_MAX => Ok(Value::Double(x)),
            _ if x.is_finite() => Err(beyond(field, x, "a magnitude of at most 1e30")),
            _ => Err(not_finite(field, &x.to_string())),
        },
        (FieldType::Double, Value::Text(text)) if names_no_number(&text) => Err(not_finite(field, &text)),
        (FieldType::Bigint, Value::Double(x)) if !x.is_finite() => Err(not_finite(field, &x.to_string())),
        (FieldType::Bigint, Value::Double(x)) if x.fract() == 0.0 => {
            // 2^63 as a double is exact and one too many.
            if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) {
                Ok(Value::Bigint(x as i64))
            } else {
                Err(beyond(field, x, "a 64-bit integer"))
            }
        }
        (FieldType::Timestamp, Value::Text(text)) => match parse_rfc3339(&text) {
            Some(ms) => Ok(Value::Timestamp(ms)),
            None => Err(bad_time(field, &format!("\"{}\"", shorten(&text, 60)))),
        },
        (FieldType::Timestamp, Value::Bigint(ms) | Value::Timestamp(ms)) => match ms {
            TIME_MS_MIN..=TIME_MS_MAX => Ok(Value::Timestamp(ms)),
            _ => Err(bad_time(field, &ms.to_string())),
        },
        (FieldType::Timestamp, Value::Double(x)) => {
            if (TIME_MS_MIN as f64..=TIME_MS_MAX as f64).contains(&x) {
                Ok(Value::Timestamp(x.floor() as i64))
            } else {
                Err(bad_time(field, &format!("{x:?}")))
            }
        }
        (_, value) => Err(wrong_type(field, &found(&value))),
    }
}

pub(super) fn wrong_type(field: &Field, found: &str) -> Rejection {
    Rejection::new(
        Reason::WrongType,
        format!("field `{}` is {found}; a {} is expected", shorten(&field.name, 60), field.kind),
    )
}

fn found(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Double(x) => format!("the number {x:?}"),
        Value::Bigint(n) => format!("the number {n}"),
        Value::Boolean(b) => format!("{b}"),
        Value::Timestamp(ms) => format!("the time {ms}"),
        Value::Text(text) => format!("the text \"{}\"", shorten(text, 60)),
    }
}

fn beyond(field: &Field, found: f64, expected: &str) -> Rejection {
    let detail = format!("field `{}` is {found:?}; {expected} is expected", shorten(&field.name, 60));
    Rejection::new(Reason::OutOfRange, detail)
}

fn not_finite(field: &Field, found: &str) -> Rejection {
    let detail = format!("field `{}` is {found}; a finite number is expected", shorten(&field.name, 60));
    Rejection::new(Reason::NotFinite, detail)
}

fn bad_time(field: &Field, found: &str) -> Rejection {
    let detail = format!(
        "field `{}` is {found}; RFC 3339 with an offset, or epoch milliseconds, is expected",
        shorten(&field.name, 60)
    );
    Rejection::new(Reason::BadTime, detail)
}

/// Texts that other languages write for a double which is no number.
fn names_no_number(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    ["nan", "inf", "infinity"].iter().any(|name| text.eq_ignore_ascii_case(name))
}
