//! The declared fields of an event, checked once at start-up.

use crate::event::{EventSpec, Field, FieldType};
use std::fmt;

/// Why a declaration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error(
        "field `{field}` has the type `{found}`; possible are string, double, bigint, boolean and timestamp, each with an optional `not null`"
    )]
    UnknownType { field: String, found: String },
    #[error("field `{0}` is declared twice")]
    Duplicate(String),
    #[error("a field has an empty name")]
    EmptyName,
    #[error("the {role} is field `{field}`, declared {found}; it must be {possible}")]
    WrongRole { role: &'static str, field: String, found: FieldType, possible: &'static str },
    #[error("field `{0}` is not declared in [event.fields]")]
    Unknown(String),
}

impl FieldType {
    /// The SQL name, as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Double => "double",
            Self::Bigint => "bigint",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Field {
    /// One line of `[event.fields]`: `string | double | bigint | boolean | timestamp`, with an optional ` not null`.
    pub fn parse(name: &str, text: &str) -> Result<Self, SchemaError> {
        let words: Vec<String> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
        let unknown = || SchemaError::UnknownType { field: name.to_owned(), found: text.to_owned() };
        let (kind, required) = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [kind] => (kind, false),
            [kind, "not", "null"] => (kind, true),
            _ => return Err(unknown()),
        };
        let kind = match kind {
            "string" => FieldType::String,
            "double" => FieldType::Double,
            "bigint" => FieldType::Bigint,
            "boolean" => FieldType::Boolean,
            "timestamp" => FieldType::Timestamp,
            _ => return Err(unknown()),
        };
        if name.is_empty() {
            return Err(SchemaError::EmptyName);
        }
        Ok(Self { name: name.to_owned(), kind, required })
    }
}

/// Every field that an event may have: the declared ones and the configured id, time and entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
}

impl Schema {
    /// An undeclared time field is a timestamp, an undeclared id or entity a string; all three are required.
    pub fn new(spec: &EventSpec) -> Result<Self, SchemaError> {
        let mut fields: Vec<Field> = Vec::with_capacity(spec.fields.len() + 3);
        for field in &spec.fields {
            if field.name.is_empty() {
                return Err(SchemaError::EmptyName);
            }
            if fields.iter().any(|f| f.name == field.name) {
                return Err(SchemaError::Duplicate(field.name.clone()));
            }
            fields.push(field.clone());
        }
        for (role, name) in [("id", &spec.id), ("time", &spec.time), ("entity", &spec.entity)] {
            let Some(name) = name else { continue };
            if name.is_empty() {
                return Err(SchemaError::EmptyName);
            }
            let is_time = role == "time";
            let Some(field) = fields.iter_mut().find(|f| f.name == *name) else {
                let kind = if is_time { FieldType::Timestamp } else { FieldType::String };
                fields.push(Field { name: name.clone(), kind, required: true });
                continue;
            };
            field.required = true;
            let (fits, possible) = if is_time {
                (field.kind == FieldType::Timestamp, "timestamp (RFC 3339 text or epoch milliseconds)")
            } else {
                (matches!(field.kind, FieldType::String | FieldType::Bigint), "string or bigint")
            };
            if !fits {
                return Err(SchemaError::WrongRole { role, field: name.clone(), found: field.kind, possible });
            }
        }
        Ok(Self { fields })
    }

    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(fields: &[(&str, &str)], id: Option<&str>, time: Option<&str>) -> EventSpec {
        EventSpec {
            id: id.map(str::to_owned),
            time: time.map(str::to_owned),
            entity: Some("host".into()),
            fields: fields.iter().map(|(n, t)| Field::parse(n, t).unwrap()).collect(),
            lateness_ms: 0,
            bytes_max: 1024,
            depth_max: 8,
        }
    }

    #[test]
    fn types_parse_or_say_what_is_possible() {
        assert_eq!(
            Field::parse("x", "Bigint NOT  null").unwrap(),
            Field { name: "x".into(), kind: FieldType::Bigint, required: true }
        );
        for text in ["", "int", "double null", "double not", "not null"] {
            let error = Field::parse("x", text).unwrap_err().to_string();
            assert!(error.contains("`x`") && error.contains("possible are string, double"), "{error}");
        }
    }

    #[test]
    fn roles_get_a_type_and_are_required() {
        let schema = Schema::new(&spec(&[("host", "bigint"), ("x", "double")], Some("rid"), Some("ts"))).unwrap();
        assert!(schema.field("host").unwrap().required && !schema.field("x").unwrap().required);
        assert_eq!(schema.field("rid").unwrap().kind, FieldType::String);
        assert_eq!(schema.field("ts").unwrap().kind, FieldType::Timestamp);
        assert_eq!(
            Schema::new(&spec(&[("x", "double"), ("x", "string")], None, None)),
            Err(SchemaError::Duplicate("x".into()))
        );
        let error = Schema::new(&spec(&[("ts", "string")], None, Some("ts"))).unwrap_err().to_string();
        assert!(error.contains("the time is field `ts`, declared string; it must be timestamp"), "{error}");
        assert!(Schema::new(&spec(&[("host", "double")], None, None)).is_err());
    }
}
