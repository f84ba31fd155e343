//! Typed expressions and their evaluation over one event, with SQL's three-valued logic; no parsing here.
//!
//! What has no value is NULL and never an error: a division by zero, an integer overflow, a logarithm of nothing, and every
//! result that is not finite or is beyond 1e30 in magnitude.

use crate::event::{FieldType, NUMBER_MAX, Value};
use crate::features::scalar::{self, Function, Part};
use std::borrow::Cow;
use std::cmp::Ordering;

/// An arithmetic operator. Of two bigints the result is a bigint (`7 / 2` is 3), otherwise a double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An expression whose operands have the types that its operator needs; the compiler has seen to that.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Literal(Value<'static>),
    /// The slot in [`crate::event::Event::fields`], and the name to print.
    Field {
        slot: usize,
        name: Box<str>,
    },
    /// The result of a window call: its place in the plan, its type, and the text to print.
    Window {
        call: usize,
        kind: FieldType,
        text: Box<str>,
    },
    Negate(Box<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    /// `IS TRUE` or `IS FALSE`: never NULL.
    Is(bool, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    Like {
        text: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<char>,
    },
    Case {
        arms: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
    },
    Call(Function, Vec<Expr>),
    Cast(FieldType, Box<Expr>),
    Extract(Part, Box<Expr>),
}

/// What an expression is evaluated over. A window result of NaN is NULL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'r> {
    pub fields: &'r [Value<'r>],
    pub windows: &'r [f64],
}

impl Expr {
    pub(crate) fn evaluate<'r>(&'r self, row: Row<'r>) -> Value<'r> {
        match self {
            Self::Literal(value) => borrow(value),
            Self::Field { slot, .. } => borrow(&row.fields[*slot]),
            Self::Window { call, kind, .. } => from_number(row.windows[*call], *kind),
            Self::Negate(inner) => match inner.evaluate(row) {
                Value::Bigint(n) => n.checked_neg().map_or(Value::Null, Value::Bigint),
                Value::Double(x) => Value::Double(-x),
                _ => Value::Null,
            },
            Self::Not(inner) => truth(inner.evaluate(row).truth().map(|b| !b)),
            Self::IsNull(inner) => Value::Boolean(inner.with(row, |value| *value == Value::Null)),
            Self::Is(wanted, inner) => Value::Boolean(inner.evaluate(row).truth() == Some(*wanted)),
            Self::And(a, b) => match a.evaluate(row).truth() {
                Some(false) => Value::Boolean(false),
                left => match (left, b.evaluate(row).truth()) {
                    (_, Some(false)) => Value::Boolean(false),
                    (Some(true), right) => truth(right),
                    _ => Value::Null,
                },
            },
            Self::Or(a, b) => match a.evaluate(row).truth() {
                Some(true) => Value::Boolean(true),
                left => match (left, b.evaluate(row).truth()) {
                    (_, Some(true)) => Value::Boolean(true),
                    (Some(false), right) => truth(right),
                    _ => Value::Null,
                },
            },
            Self::Arithmetic(op, a, b) => a.with(row, |a| b.with(row, |b| arithmetic(*op, a, b))),
            Self::Compare(op, a, b) => truth(a.with(row, |a| b.with(row, |b| compare(a, b))).map(|o| op.holds(o))),
            Self::In(needle, list) => {
                let needle = needle.evaluate(row);
                let mut unknown = needle == Value::Null;
                for item in list {
                    match compare(&needle, &item.evaluate(row)) {
                        Some(Ordering::Equal) => return Value::Boolean(true),
                        Some(_) => {}
                        None => unknown = true,
                    }
                }
                if unknown { Value::Null } else { Value::Boolean(false) }
            }
            Self::Like { text, pattern, escape } => match (text.evaluate(row), pattern.evaluate(row)) {
                (Value::Text(text), Value::Text(pattern)) => truth(scalar::like(&text, &pattern, *escape)),
                _ => Value::Null,
            },
            Self::Case { arms, otherwise } => taken(arms, otherwise, row).evaluate(row),
            Self::Call(function, arguments) => function.evaluate(arguments, row),
            Self::Cast(kind, inner) => scalar::cast(*kind, inner.evaluate(row)),
            Self::Extract(part, inner) => match inner.evaluate(row) {
                Value::Timestamp(ms) => Value::Bigint(part.of(ms)),
                _ => Value::Null,
            },
        }
    }

    /// The value as a feature or as what a window keeps: NaN is NULL; a boolean is 1 or 0; text is 1 (only its presence counts).
    pub(crate) fn number(&self, row: Row<'_>) -> f64 {
        match self {
            Self::Case { arms, otherwise } => taken(arms, otherwise, row).number(row),
            _ => self.with(row, to_number),
        }
    }

    /// Calls `f` with the value, which is only copied where it has to be computed.
    fn with<T>(&self, row: Row<'_>, f: impl FnOnce(&Value<'_>) -> T) -> T {
        match self {
            Self::Literal(value) => f(value),
            Self::Field { slot, .. } => f(&row.fields[*slot]),
            _ => f(&self.evaluate(row)),
        }
    }
}

/// The result of the first arm whose condition is true.
fn taken<'e>(arms: &'e [(Expr, Expr)], otherwise: &'e Expr, row: Row<'_>) -> &'e Expr {
    let taken = arms.iter().find(|(condition, _)| condition.evaluate(row).truth() == Some(true));
    taken.map_or(otherwise, |(_, result)| result)
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Value<'_> {
    fn truth(&self) -> Option<bool> {
        match self {
            Value::Boolean(b) => Some(*b),
            _ => None,
        }
    }
}

pub(crate) fn to_number(value: &Value<'_>) -> f64 {
    match value {
        Value::Null => f64::NAN,
        Value::Double(x) => *x,
        Value::Bigint(n) | Value::Timestamp(n) => *n as f64,
        Value::Boolean(b) => f64::from(u8::from(*b)),
        Value::Text(_) => 1.0,
    }
}

/// The way back from [`to_number`]. Integers are exact up to 2^53.
fn from_number(x: f64, kind: FieldType) -> Value<'static> {
    if x.is_nan() {
        return Value::Null;
    }
    match kind {
        FieldType::Double => double(x),
        FieldType::Bigint => bigint(x),
        FieldType::Timestamp => Value::Timestamp(x as i64),
        FieldType::Boolean => Value::Boolean(x != 0.0),
        FieldType::String => unreachable!("windows keep numbers"),
    }
}

/// A double, or NULL where no feature may be: NaN, an infinity, beyond 1e30.
pub(crate) fn double(x: f64) -> Value<'static> {
    if x.abs() <= NUMBER_MAX { Value::Double(x) } else { Value::Null }
}

/// The integer part, or NULL beyond 64 bits.
pub(crate) fn bigint(x: f64) -> Value<'static> {
    // 2^63 as a double is exact and one too many.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&x) {
        Value::Bigint(x as i64)
    } else {
        Value::Null
    }
}

pub(crate) fn borrow<'r>(value: &'r Value<'_>) -> Value<'r> {
    match value {
        Value::Null => Value::Null,
        Value::Double(x) => Value::Double(*x),
        Value::Bigint(n) => Value::Bigint(*n),
        Value::Boolean(b) => Value::Boolean(*b),
        Value::Timestamp(ms) => Value::Timestamp(*ms),
        Value::Text(text) => Value::Text(Cow::Borrowed(text)),
    }
}

fn truth(b: Option<bool>) -> Value<'static> {
    b.map_or(Value::Null, Value::Boolean)
}

/// A double or bigint as a double.
pub(crate) fn as_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(x) => Some(*x),
        Value::Bigint(n) => Some(*n as f64),
        _ => None,
    }
}

/// `None` where a side is NULL. Doubles are never NaN here.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bigint(a), Value::Bigint(b)) | (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Boolean(a), Value::Boolean(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (a, b) => as_double(a)?.partial_cmp(&as_double(b)?),
    }
}

pub(crate) fn arithmetic(op: Arithmetic, a: &Value<'_>, b: &Value<'_>) -> Value<'static> {
    if let (Value::Bigint(a), Value::Bigint(b)) = (a, b) {
        let result = match op {
            Arithmetic::Add => a.checked_add(*b),
            Arithmetic::Subtract => a.checked_sub(*b),
            Arithmetic::Multiply => a.checked_mul(*b),
            Arithmetic::Divide => a.checked_div(*b),
            Arithmetic::Modulo => a.checked_rem(*b),
        };
        return result.map_or(Value::Null, Value::Bigint);
    }
    let (Some(a), Some(b)) = (as_double(a), as_double(b)) else { return Value::Null };
    double(match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Modulo => libm::fmod(a, b),
    })
}
