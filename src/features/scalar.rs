//! The scalar functions: LIKE, CAST, EXTRACT and those called by name. NULL in, NULL out, except where SQL says otherwise.

use crate::event::time::{civil_from_days, days_from_civil, parse_sql_timestamp};
use crate::event::{FieldType, Value};
use crate::features::expr::{Arithmetic, Expr, Row, arithmetic, as_double, bigint, compare, double};
use std::borrow::Cow;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// A function called by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Sqrt,
    Exp,
    Ln,
    Log10,
    Power,
    Mod,
    Sin,
    Cos,
    Greatest,
    Least,
    Lower,
    Upper,
    CharLength,
    Substring,
    Concat,
    Coalesce,
    NullIf,
    /// Whole seconds, minutes, hours or days from the first timestamp to the second, towards zero; the unit in milliseconds.
    TimestampDiff(i64),
    /// A hash of a text as a whole number below 2^53, which a window can keep: two of a million texts are one with a chance of 1 in 18,000.
    Fingerprint,
}

impl Function {
    pub(crate) fn evaluate<'r>(self, arguments: &'r [Expr], row: Row<'r>) -> Value<'r> {
        match self {
            Self::Coalesce => {
                arguments.iter().map(|a| a.evaluate(row)).find(|v| *v != Value::Null).unwrap_or(Value::Null)
            }
            Self::NullIf => {
                let value = arguments[0].evaluate(row);
                let equal = compare(&value, &arguments[1].evaluate(row)) == Some(Ordering::Equal);
                if equal { Value::Null } else { value }
            }
            Self::Greatest => extreme(arguments, row, Ordering::Greater),
            Self::Least => extreme(arguments, row, Ordering::Less),
            Self::Substring => substring(arguments, row),
            _ => match arguments {
                [a] => self.of_one(a.evaluate(row)),
                [a, b] => self.of_two(&a.evaluate(row), &b.evaluate(row)),
                _ => unreachable!("the compiler has counted the arguments"),
            },
        }
    }

    fn of_one(self, value: Value<'_>) -> Value<'_> {
        match (self, value) {
            (Self::Abs, Value::Bigint(n)) => n.checked_abs().map_or(Value::Null, Value::Bigint),
            (Self::Sign, Value::Bigint(n)) => Value::Bigint(n.signum()),
            (Self::Floor | Self::Ceil | Self::Round, Value::Bigint(n)) => Value::Bigint(n),
            (Self::Lower, Value::Text(text)) => Value::Text(Cow::Owned(text.to_lowercase())),
            (Self::Upper, Value::Text(text)) => Value::Text(Cow::Owned(text.to_uppercase())),
            (Self::Fingerprint, Value::Text(text)) => Value::Bigint((xxh3_64(text.as_bytes()) >> 11) as i64),
            (Self::CharLength, Value::Text(text)) => Value::Bigint(text.chars().count() as i64),
            (_, value) => as_double(&value).map_or(Value::Null, |x| double(self.of_double(x))),
        }
    }

    fn of_double(self, x: f64) -> f64 {
        match self {
            Self::Abs => x.abs(),
            Self::Sign if x == 0.0 => 0.0,
            Self::Sign => x.signum(),
            Self::Floor => libm::floor(x),
            Self::Ceil => libm::ceil(x),
            Self::Round => libm::round(x),
            Self::Sqrt => x.sqrt(),
            Self::Exp => libm::exp(x),
            Self::Ln => libm::log(x),
            Self::Log10 => libm::log10(x),
            Self::Sin => libm::sin(x),
            Self::Cos => libm::cos(x),
            other => unreachable!("{other:?} is no function of one number"),
        }
    }

    fn of_two(self, a: &Value<'_>, b: &Value<'_>) -> Value<'static> {
        match (self, a, b) {
            (Self::Mod, a, b) => arithmetic(Arithmetic::Modulo, a, b),
            (Self::Concat, Value::Text(a), Value::Text(b)) => Value::Text(Cow::Owned(format!("{a}{b}"))),
            (Self::TimestampDiff(unit_ms), Value::Timestamp(from), Value::Timestamp(to)) => {
                Value::Bigint((to - from) / unit_ms)
            }
            (Self::Power, a, b) => match (as_double(a), as_double(b)) {
                (Some(a), Some(b)) => double(libm::pow(a, b)),
                _ => Value::Null,
            },
            (Self::Round, Value::Bigint(n), Value::Bigint(0..)) => Value::Bigint(*n),
            (Self::Round, Value::Bigint(n), digits @ Value::Bigint(_)) => {
                match self.of_two(&Value::Double(*n as f64), digits) {
                    Value::Double(x) => bigint(x),
                    _ => Value::Null,
                }
            }
            (Self::Round, Value::Double(x), Value::Bigint(digits)) => {
                // Beyond these a double has no such digit, and the scale would overflow.
                let digits = (*digits).clamp(-40, 40);
                let scale = libm::pow(10.0, digits.unsigned_abs() as f64);
                let rounded = if digits >= 0 { libm::round(x * scale) / scale } else { libm::round(x / scale) * scale };
                double(rounded)
            }
            _ => Value::Null,
        }
    }
}

/// GREATEST and LEAST: NULL as soon as one argument is.
fn extreme<'r>(arguments: &'r [Expr], row: Row<'r>, wanted: Ordering) -> Value<'r> {
    let mut best = arguments[0].evaluate(row);
    for argument in &arguments[1..] {
        let value = argument.evaluate(row);
        match compare(&value, &best) {
            None => return Value::Null,
            Some(ordering) if ordering == wanted => best = value,
            Some(_) => {}
        }
    }
    best
}

/// Positions count characters from 1; one before the text takes away from the length, as in the standard.
fn substring<'r>(arguments: &'r [Expr], row: Row<'r>) -> Value<'r> {
    let (Value::Text(text), Value::Bigint(from)) = (arguments[0].evaluate(row), arguments[1].evaluate(row)) else {
        return Value::Null;
    };
    let until = match arguments.get(2).map(|a| a.evaluate(row)) {
        None => i64::MAX,
        Some(Value::Bigint(length @ 0..)) => from.saturating_add(length),
        Some(_) => return Value::Null,
    };
    let skipped = from.max(1) - 1;
    let taken = (until - 1).saturating_sub(skipped).max(0);
    let range = text.chars().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
    Value::Text(Cow::Owned(range.take(usize::try_from(taken).unwrap_or(usize::MAX)).collect()))
}

/// SQL LIKE: `%` is any text, `_` any character. `None` (NULL) where the escape character escapes nothing.
pub(crate) fn like(text: &str, pattern: &str, escape: Option<char>) -> Option<bool> {
    let mut tokens = Vec::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            c if Some(c) == escape => {
                Token::Char(rest.next().filter(|e| matches!(e, '%' | '_') || Some(*e) == escape)?)
            }
            '%' => Token::Any,
            '_' => Token::One,
            c => Token::Char(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    // Greedy with one point to go back to: linear for one `%`, never exponential.
    let (mut t, mut p, mut back) = (0, 0, None);
    while t < text.len() {
        match tokens.get(p) {
            Some(Token::Any) => {
                back = Some((p, t));
                p += 1;
            }
            Some(Token::One) => (t, p) = (t + 1, p + 1),
            Some(Token::Char(c)) if *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => {
                let Some((any, from)) = back else { return Some(false) };
                back = Some((any, from + 1));
                (p, t) = (any + 1, from + 1);
            }
        }
    }
    Some(tokens[p..].iter().all(|token| matches!(token, Token::Any)))
}

enum Token {
    Any,
    One,
    Char(char),
}

/// CAST. What cannot be cast is NULL: a text that is no number, a number beyond the type.
pub(crate) fn cast(kind: FieldType, value: Value<'_>) -> Value<'_> {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        (FieldType::Double, Value::Text(text)) => text.trim().parse().map_or(Value::Null, double),
        (FieldType::Double, Value::Boolean(b)) => Value::Double(f64::from(u8::from(b))),
        (FieldType::Double, value) => as_double(&value).map_or(Value::Null, double),
        (FieldType::Bigint, Value::Double(x)) => bigint(x),
        (FieldType::Bigint, Value::Text(text)) => text.trim().parse().map_or(Value::Null, Value::Bigint),
        (FieldType::Bigint, Value::Boolean(b)) => Value::Bigint(i64::from(b)),
        (FieldType::Bigint, Value::Timestamp(ms)) => Value::Bigint(ms),
        (FieldType::Boolean, Value::Bigint(n)) => Value::Boolean(n != 0),
        (FieldType::Boolean, Value::Double(x)) => Value::Boolean(x != 0.0),
        (FieldType::Boolean, Value::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Value::Boolean(true),
            "false" => Value::Boolean(false),
            _ => Value::Null,
        },
        (FieldType::Timestamp, Value::Text(text)) => {
            parse_sql_timestamp(text.trim()).map_or(Value::Null, Value::Timestamp)
        }
        (FieldType::String, Value::Bigint(n)) => Value::Text(Cow::Owned(n.to_string())),
        (FieldType::String, Value::Double(x)) => Value::Text(Cow::Owned(format!("{x:?}"))),
        (FieldType::String, Value::Boolean(b)) => Value::Text(Cow::Borrowed(if b { "TRUE" } else { "FALSE" })),
        (_, value) => value,
    }
}

/// A part of a timestamp, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Year,
    Quarter,
    Month,
    /// Of the ISO year.
    Week,
    Day,
    /// Sunday is 1, as in Flink.
    Dow,
    /// Monday is 1.
    Isodow,
    Doy,
    Hour,
    Minute,
    Second,
    Millisecond,
    /// Seconds since 1970.
    Epoch,
}

impl Part {
    pub(crate) fn of(self, ms: i64) -> i64 {
        let days = ms.div_euclid(86_400_000);
        let second_of_day = ms.rem_euclid(86_400_000) / 1_000;
        // 1970-01-01 was a Thursday.
        let monday_is_0 = (days + 3).rem_euclid(7);
        let (year, month, day) = civil_from_days(days);
        match self {
            Self::Year => year,
            Self::Quarter => (month + 2) / 3,
            Self::Month => month,
            Self::Day => day,
            Self::Week => {
                // The week belongs to the year of its Thursday.
                let thursday = days - monday_is_0 + 3;
                (thursday - days_from_civil(civil_from_days(thursday).0, 1, 1)) / 7 + 1
            }
            Self::Dow => (monday_is_0 + 1) % 7 + 1,
            Self::Isodow => monday_is_0 + 1,
            Self::Doy => days - days_from_civil(year, 1, 1) + 1,
            Self::Hour => second_of_day / 3_600,
            Self::Minute => second_of_day / 60 % 60,
            Self::Second => second_of_day % 60,
            Self::Millisecond => ms.rem_euclid(1_000),
            Self::Epoch => ms.div_euclid(1_000),
        }
    }
}
