//! A walk over TOML tables that collects what is wrong and goes on, so that one run shows everything.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use super::text;
use crate::suggest::nearest;

/// Keys that a later version will know: better said than "unknown".
const LATER: [&str; 1] = ["api.tokens"];

/// A value and the bytes it stands on.
#[derive(Debug, Clone)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// What all tables of one file share.
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) problems: RefCell<Vec<Problem>>,
}

impl Document<'_> {
    pub(super) fn problem(&self, span: Range<usize>, message: String, here: &str, help: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { message, span, here: here.into(), help: help.into() });
    }
}

/// One table, there or not: an absent one has no entries.
#[derive(Clone)]
pub(super) struct Table<'a> {
    pub(super) document: &'a Document<'a>,
    /// As it is written: `kafka`, `event.fields`; empty for the file itself.
    pub(super) path: String,
    pub(super) entries: Option<&'a DeTable<'a>>,
    pub(super) span: Range<usize>,
    /// It is there, but is no table.
    refused: bool,
}

impl<'a> Table<'a> {
    pub(super) fn root(document: &'a Document<'a>, entries: &'a DeTable<'a>, keys: &[&str]) -> Self {
        Self { document, path: String::new(), entries: Some(entries), span: 0..0, refused: false }.only(keys)
    }

    fn below(&self, key: &str, entries: Option<&'a DeTable<'a>>, span: Range<usize>) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { document: self.document, path, entries, span, refused: false }
    }

    fn only(self, keys: &[&str]) -> Self {
        for (key, _) in self.entries.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            let place = if self.path.is_empty() { "the file".to_owned() } else { format!("[{}]", self.path) };
            let known = format!("known in {place}: {}", keys.join(", "));
            if LATER.contains(&format!("{}.{name}", self.path).as_str()) {
                self.document.problem(key.span(), format!("`{name}` is not there yet"), "leave it out", known);
                continue;
            }
            let help = match nearest(name, keys.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? {known}"),
                None => known,
            };
            self.document.problem(key.span(), format!("unknown key `{name}` in {place}"), "unknown", help);
        }
        self
    }

    fn entry(&self, key: &str) -> Option<Found<&'a DeValue<'a>>> {
        let (_, value) = self.entries?.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Found { value: value.get_ref(), span: value.span() })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Where to point when `key` itself is missing or wrong as a whole.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.entry(key).map_or(self.span.clone(), |found| found.span)
    }

    pub(super) fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn wrong(&self, key: &str, message: String, here: &str, help: impl Into<String>) {
        self.document.problem(self.span_of(key), message, here, help);
    }

    /// Reports a missing key; not where the table itself was refused.
    pub(super) fn missing(&self, key: &str, help: &str) {
        if self.refused {
            return;
        }
        let message = format!("`{key}` is missing in [{}]", self.path);
        self.document.problem(self.span.clone(), message, "it belongs here", help);
    }

    fn wrong_type(&self, key: &str, span: Range<usize>, found: &DeValue<'_>, expected: &str) {
        let message = format!("`{}` must be {expected}, not {}", self.full(key), kind_of(found));
        self.document.problem(span, message, &format!("expected {expected}"), "");
    }

    /// The table `key`, refusing keys other than these.
    pub(super) fn table(&self, key: &str, keys: &[&str]) -> Self {
        self.any_table(key).only(keys)
    }

    /// The table `key`, whose keys are the user's own.
    pub(super) fn any_table(&self, key: &str) -> Self {
        match self.entry(key) {
            Some(Found { value: DeValue::Table(entries), span }) => self.below(key, Some(entries), span),
            Some(Found { value, span }) => {
                self.wrong_type(key, span.clone(), value, &format!("a table, [{}]", self.full(key)));
                Self { refused: true, ..self.below(key, None, span) }
            }
            None => self.below(key, None, self.span.clone()),
        }
    }

    /// The tables `[[key]]`, refusing keys other than these.
    pub(super) fn tables(&self, key: &str, keys: &[&str]) -> Vec<Self> {
        let Some(Found { value, span }) = self.entry(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong_type(key, span, value, &format!("tables, each under [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref() {
                DeValue::Table(entries) => tables.push(self.below(key, Some(entries), item.span()).only(keys)),
                other => self.wrong_type(key, item.span(), other, &format!("tables, each under [[{key}]]")),
            }
        }
        tables
    }

    /// Every entry in the order of the file.
    pub(super) fn in_order(&self) -> Vec<(Found<&'a str>, Found<&'a DeValue<'a>>)> {
        let mut entries: Vec<_> = self
            .entries
            .into_iter()
            .flatten()
            .map(|(key, value)| {
                let key = Found { value: key.get_ref().as_ref(), span: key.span() };
                (key, Found { value: value.get_ref(), span: value.span() })
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        entries
    }

    /// A string with its `${ENV}` expanded.
    pub(super) fn string(&self, key: &str) -> Option<Found<String>> {
        let Found { value, span } = self.entry(key)?;
        self.string_of(key, value, span)
    }

    pub(super) fn string_of(&self, key: &str, value: &DeValue<'_>, span: Range<usize>) -> Option<Found<String>> {
        let DeValue::String(raw) = value else {
            self.wrong_type(key, span, value, "a string");
            return None;
        };
        match text::expand(raw, self.document.env) {
            Ok(value) => Some(Found { value, span }),
            Err((reference, reason)) => {
                let within = self.document.text[span.clone()].find(&reference);
                let span = within.map_or(span.clone(), |at| span.start + at..span.start + at + reference.len());
                let help = "set the variable, or write $${ for the text itself";
                self.document.problem(span, reason, &format!("in `{}`", self.full(key)), help);
                None
            }
        }
    }

    /// A string that `parse` understands; its error says what is allowed.
    pub(super) fn parsed<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let Found { value, span } = self.string(key)?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(help) => {
                // What a variable holds may be a secret: only text that stands in the file is repeated.
                let in_file = self.document.text[span.clone()].contains(&value);
                let shown = if in_file { format!(" \"{value}\"") } else { String::new() };
                self.document.problem(span, format!("bad value{shown} for `{}`", self.full(key)), "bad value", help);
                None
            }
        }
    }

    pub(super) fn duration_ms(&self, key: &str, default: i64) -> i64 {
        self.parsed(key, text::duration_ms).unwrap_or(default)
    }

    /// A whole number in `range`.
    pub(super) fn count(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(Found { value, span }) = self.entry(key) else { return default };
        let DeValue::Integer(integer) = value else {
            self.wrong_type(key, span, value, "a whole number");
            return default;
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| u64::try_from(n).ok()) {
            Some(n) if range.contains(&n) => n,
            _ => {
                let message = format!("bad value {integer} for `{}`", self.full(key));
                let help = format!("from {} to {}", range.start(), range.end());
                self.document.problem(span, message, "out of range", help);
                default
            }
        }
    }

    /// A number for which `allowed` holds; `help` says what is.
    pub(super) fn number(&self, key: &str, allowed: impl FnOnce(f64) -> bool, help: &str) -> Option<f64> {
        let Found { value, span } = self.entry(key)?;
        let number = match value {
            DeValue::Float(float) => float.as_str().parse().unwrap_or(f64::NAN),
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).map_or(f64::NAN, |n| n as f64)
            }
            _ => {
                self.wrong_type(key, span, value, "a number");
                return None;
            }
        };
        if allowed(number) {
            return Some(number);
        }
        self.document.problem(span, format!("bad value {number} for `{}`", self.full(key)), "out of range", help);
        None
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &str) -> Vec<Found<String>> {
        let Some(Found { value, span }) = self.entry(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong_type(key, span, value, "a list of strings");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.string_of(key, item.get_ref(), item.span())).collect()
    }
}

/// With its article, as it reads in a sentence.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
