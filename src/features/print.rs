//! Expressions as canonical text: what `larum check` prints and what a plan's hash is taken of. Different meanings print differently.

use crate::event::Value;
use crate::features::expr::{Arithmetic, Comparison, Expr};
use std::fmt::{self, Display, Formatter};

impl Display for Arithmetic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        })
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(value) => literal(value, f),
            Self::Field { name, .. } => f.write_str(&identifier(name)),
            Self::Window { text, .. } => f.write_str(text),
            Self::Negate(inner) => write!(f, "(- {inner})"),
            Self::Not(inner) => write!(f, "(NOT {inner})"),
            Self::IsNull(inner) => write!(f, "({inner} IS NULL)"),
            Self::Is(wanted, inner) => write!(f, "({inner} IS {})", if *wanted { "TRUE" } else { "FALSE" }),
            Self::And(a, b) => write!(f, "({a} AND {b})"),
            Self::Or(a, b) => write!(f, "({a} OR {b})"),
            Self::Arithmetic(op, a, b) => write!(f, "({a} {op} {b})"),
            Self::Compare(op, a, b) => write!(f, "({a} {op} {b})"),
            Self::In(needle, list) => write!(f, "({needle} IN ({}))", Listed(list)),
            Self::Like { text, pattern, escape } => {
                write!(f, "({text} LIKE {pattern}")?;
                if let Some(escape) = escape {
                    f.write_str(" ESCAPE ")?;
                    quoted(&escape.to_string(), f)?;
                }
                f.write_str(")")
            }
            Self::Case { arms, otherwise } => {
                f.write_str("CASE")?;
                for (condition, result) in arms {
                    write!(f, " WHEN {condition} THEN {result}")?;
                }
                write!(f, " ELSE {otherwise} END")
            }
            Self::Call(function, arguments) => {
                write!(f, "{}({})", format!("{function:?}").to_uppercase(), Listed(arguments))
            }
            Self::Cast(kind, inner) => write!(f, "CAST({inner} AS {})", kind.as_str().to_uppercase()),
            Self::Extract(part, inner) => {
                write!(f, "EXTRACT({} FROM {inner})", format!("{part:?}").to_uppercase())
            }
        }
    }
}

/// A name as SQL: bare where it can be, else in double quotes.
pub(crate) fn identifier(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(bare) && name.starts_with(|c: char| !c.is_ascii_digit()) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

fn literal(value: &Value<'_>, f: &mut Formatter<'_>) -> fmt::Result {
    match value {
        Value::Null => f.write_str("NULL"),
        // `{:?}` keeps the point of 1.0, which is not the bigint 1.
        Value::Double(x) => write!(f, "{x:?}"),
        Value::Bigint(n) => write!(f, "{n}"),
        Value::Boolean(b) => f.write_str(if *b { "TRUE" } else { "FALSE" }),
        Value::Timestamp(ms) => write!(f, "TIMESTAMP {ms}"),
        Value::Text(text) => quoted(text, f),
    }
}

fn quoted(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "'{}'", text.replace('\'', "''"))
}

struct Listed<'a>(&'a [Expr]);

impl Display for Listed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
