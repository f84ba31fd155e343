//! Why a record cannot be used: a closed list, for metrics and the dead-letter headers.

use std::fmt;

/// The class of a [`Rejection`]. The names of [`Reason::as_str`] are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No payload, or nothing but white space.
    Empty,
    /// More bytes than `limits.event_bytes`.
    TooLarge,
    /// Nested deeper than `limits.event_depth`.
    TooDeep,
    BrokenJson,
    NotAnObject,
    WrongType,
    /// A required field is absent or null.
    MissingField,
    /// NaN, an infinity, or a number that is one as a double (1e400).
    NotFinite,
    /// A double beyond 1e30 in magnitude, or an integer beyond 64 bits.
    OutOfRange,
    /// Neither RFC 3339 with an offset nor epoch milliseconds between the years 1 and 9999; or no time at all.
    BadTime,
    /// More than five minutes ahead of the record's Kafka timestamp.
    FromTheFuture,
}

impl Reason {
    /// Every reason, in the order of the checks.
    pub const ALL: [Self; 11] = [
        Self::Empty,
        Self::TooLarge,
        Self::TooDeep,
        Self::BrokenJson,
        Self::NotAnObject,
        Self::WrongType,
        Self::MissingField,
        Self::NotFinite,
        Self::OutOfRange,
        Self::BadTime,
        Self::FromTheFuture,
    ];

    /// The stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too_large",
            Self::TooDeep => "too_deep",
            Self::BrokenJson => "broken_json",
            Self::NotAnObject => "not_an_object",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::NotFinite => "not_finite",
            Self::OutOfRange => "out_of_range",
            Self::BadTime => "bad_time",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A record that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Rejection {
    pub reason: Reason,
    /// One sentence with the field, what was found and what was expected; at most [`DETAIL_CHARS_MAX`] characters.
    pub detail: String,
}

/// It goes into a Kafka header: a record of 1 MiB must not come back as its own error text.
pub const DETAIL_CHARS_MAX: usize = 240;

impl Rejection {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: shorten(&detail.into(), DETAIL_CHARS_MAX) }
    }
}

/// The text, cut after `chars_max` characters.
pub(crate) fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_details_bounded() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert_eq!(Rejection::new(Reason::Empty, "é".repeat(10_000)).detail.chars().count(), DETAIL_CHARS_MAX);
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "ab…");
    }
}
