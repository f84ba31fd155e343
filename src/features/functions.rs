//! Compiles calls by name: which functions there are, what they take and what they give.

use crate::event::FieldType;
use crate::features::compile::{Compiler, Typed, promoted};
use crate::features::error::QueryError;
use crate::features::expr::Expr;
use crate::features::scalar::{Function, Part};
use crate::suggest::nearest;
use sqlparser::ast::{self, Spanned};

/// What a function takes and gives.
enum Signature {
    /// Numbers; gives the type of its arguments.
    Same(usize),
    /// Numbers; gives a double.
    Double(usize),
    /// Text; gives this type.
    Text(FieldType),
    /// Any values of one type; at least so many.
    Alike(usize),
}

const SCALARS: [(&str, Function, Signature); 21] = [
    ("ABS", Function::Abs, Signature::Same(1)),
    ("SIGN", Function::Sign, Signature::Same(1)),
    ("FLOOR", Function::Floor, Signature::Same(1)),
    ("CEIL", Function::Ceil, Signature::Same(1)),
    ("CEILING", Function::Ceil, Signature::Same(1)),
    ("MOD", Function::Mod, Signature::Same(2)),
    ("SQRT", Function::Sqrt, Signature::Double(1)),
    ("EXP", Function::Exp, Signature::Double(1)),
    ("LN", Function::Ln, Signature::Double(1)),
    ("LOG10", Function::Log10, Signature::Double(1)),
    ("SIN", Function::Sin, Signature::Double(1)),
    ("COS", Function::Cos, Signature::Double(1)),
    ("POWER", Function::Power, Signature::Double(2)),
    ("LOWER", Function::Lower, Signature::Text(FieldType::String)),
    ("UPPER", Function::Upper, Signature::Text(FieldType::String)),
    ("CHAR_LENGTH", Function::CharLength, Signature::Text(FieldType::Bigint)),
    ("CHARACTER_LENGTH", Function::CharLength, Signature::Text(FieldType::Bigint)),
    ("GREATEST", Function::Greatest, Signature::Alike(1)),
    ("LEAST", Function::Least, Signature::Alike(1)),
    ("COALESCE", Function::Coalesce, Signature::Alike(1)),
    ("NULLIF", Function::NullIf, Signature::Alike(2)),
];

/// Compiled elsewhere, but a name that can be meant.
const OTHERS: [&str; 6] = ["ROUND", "SUBSTRING", "TIMESTAMPDIFF", "EXTRACT", "CAST", "CASE"];

/// The window functions.
pub(super) const AGGREGATES: [&str; 12] = [
    "COUNT",
    "SUM",
    "AVG",
    "MIN",
    "MAX",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "VAR_POP",
    "VAR_SAMP",
    "FIRST_VALUE",
    "LAST_VALUE",
    "LAG",
];

const PARTS: [(&str, Part); 13] = [
    ("YEAR", Part::Year),
    ("QUARTER", Part::Quarter),
    ("MONTH", Part::Month),
    ("WEEK", Part::Week),
    ("DAY", Part::Day),
    ("DOW", Part::Dow),
    ("ISODOW", Part::Isodow),
    ("DOY", Part::Doy),
    ("HOUR", Part::Hour),
    ("MINUTE", Part::Minute),
    ("SECOND", Part::Second),
    ("MILLISECOND", Part::Millisecond),
    ("EPOCH", Part::Epoch),
];

/// Units of TIMESTAMPDIFF and of intervals, in milliseconds.
pub(super) const UNITS: [(&str, i64); 5] =
    [("MILLISECOND", 1), ("SECOND", 1_000), ("MINUTE", 60_000), ("HOUR", 3_600_000), ("DAY", 86_400_000)];

type Lowered = Result<Typed, QueryError>;

impl Compiler<'_> {
    pub(super) fn function(&mut self, call: &ast::Function) -> Lowered {
        let name = call.name.to_string().to_uppercase();
        if AGGREGATES.contains(&name.as_str()) {
            return self.window_call(&name, call);
        }
        if call.over.is_some() {
            return self.refuse(format!("{name} is no window function; possible are {}", AGGREGATES.join(", ")));
        }
        let arguments = self.arguments(&name, call)?;
        match name.as_str() {
            "ROUND" => return self.round(&arguments),
            "TIMESTAMPDIFF" => return self.timestamp_difference(&arguments),
            _ => {}
        }
        let Some((_, function, signature)) = SCALARS.iter().find(|(known, ..)| *known == name) else {
            let known = || SCALARS.iter().map(|(n, ..)| *n).chain(OTHERS).chain(AGGREGATES);
            let hint = match nearest(&name, known()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("possible are {}", known().collect::<Vec<_>>().join(", ")),
            };
            return self.refuse(format!("there is no function {name}; {hint}"));
        };
        let here = self.here;
        let expected = match signature {
            Signature::Same(n) | Signature::Double(n) => *n..=*n,
            Signature::Text(_) => 1..=1,
            Signature::Alike(_) if *function == Function::NullIf => 2..=2,
            Signature::Alike(n) => *n..=usize::MAX,
        };
        if !expected.contains(&arguments.len()) {
            return self.refuse(format!("{name} takes {} arguments; found {}", expected.start(), arguments.len()));
        }
        match signature {
            Signature::Same(_) | Signature::Double(_) => {
                let typed = arguments.iter().map(|a| self.number(a, &name)).collect::<Result<Vec<_>, _>>()?;
                let kind = match signature {
                    Signature::Double(_) => FieldType::Double,
                    _ => promoted(&typed.iter().map(|t| t.kind).collect::<Vec<_>>()),
                };
                Ok(Typed::new(Expr::Call(*function, typed.into_iter().map(|t| t.expr).collect()), kind))
            }
            Signature::Text(kind) => {
                let text = self.of_kind(arguments[0], FieldType::String, &name)?;
                Ok(Typed::new(Expr::Call(*function, vec![text]), *kind))
            }
            Signature::Alike(_) => {
                let typed = arguments.iter().map(|a| self.lower(a)).collect::<Result<Vec<_>, _>>()?;
                self.here = here;
                let (expressions, kind) = self.unify(typed, &name)?;
                Ok(Typed { expr: Expr::Call(*function, expressions), kind })
            }
        }
    }

    /// The arguments, where they are plain expressions and nothing else is said.
    pub(super) fn arguments<'e>(&self, name: &str, call: &'e ast::Function) -> Result<Vec<&'e ast::Expr>, QueryError> {
        let plain = call.filter.is_none()
            && call.null_treatment.is_none()
            && call.within_group.is_empty()
            && matches!(call.parameters, ast::FunctionArguments::None)
            && !call.uses_odbc_syntax;
        let list = match &call.args {
            ast::FunctionArguments::List(list) if plain && list.clauses.is_empty() => list,
            ast::FunctionArguments::None if plain => return Ok(Vec::new()),
            _ => return self.refuse(format!("{name} takes plain arguments only: no FILTER, IGNORE NULLS or subquery")),
        };
        if name != "COUNT" && matches!(list.duplicate_treatment, Some(ast::DuplicateTreatment::Distinct)) {
            return self.refuse(format!("{name}(DISTINCT ...) is not possible; COUNT(DISTINCT x) is"));
        }
        let plain = |argument: &'e ast::FunctionArg| match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Ok(expr),
            other => self.refuse(format!("{name} does not take the argument `{other}`")),
        };
        list.args.iter().map(plain).collect()
    }

    pub(super) fn rounding(&mut self, function: Function, operand: &ast::Expr) -> Lowered {
        let Typed { expr, kind } = self.number(operand, "FLOOR or CEIL")?;
        Ok(Typed { expr: Expr::Call(function, vec![expr]), kind })
    }

    fn round(&mut self, arguments: &[&ast::Expr]) -> Lowered {
        let (value, digits) = match arguments {
            [value] => (value, None),
            [value, digits] => (value, Some(digits)),
            _ => return self.refuse(format!("ROUND takes 1 or 2 arguments; found {}", arguments.len())),
        };
        let Typed { expr, kind } = self.number(value, "ROUND")?;
        let mut all = vec![expr];
        if let Some(digits) = digits {
            all.push(self.of_kind(digits, FieldType::Bigint, "ROUND to digits")?);
        }
        Ok(Typed { expr: Expr::Call(Function::Round, all), kind })
    }

    fn timestamp_difference(&mut self, arguments: &[&ast::Expr]) -> Lowered {
        let [ast::Expr::Identifier(unit), from, to] = arguments else {
            return self.refuse("write TIMESTAMPDIFF(SECOND, from, to)");
        };
        let Some((_, unit_ms)) = UNITS.iter().find(|(name, _)| unit.value.eq_ignore_ascii_case(name)) else {
            self.look_at(unit.span);
            let possible = UNITS.map(|(name, _)| name).join(", ");
            return self.refuse(format!("TIMESTAMPDIFF counts in {possible}; found {}", unit.value));
        };
        let from = self.of_kind(from, FieldType::Timestamp, "TIMESTAMPDIFF")?;
        let to = self.of_kind(to, FieldType::Timestamp, "TIMESTAMPDIFF")?;
        Ok(Typed::new(Expr::Call(Function::TimestampDiff(*unit_ms), vec![from, to]), FieldType::Bigint))
    }

    pub(super) fn extract(&mut self, part: &str, operand: &ast::Expr) -> Lowered {
        let Some((_, known)) = PARTS.iter().find(|(name, _)| part.eq_ignore_ascii_case(name)) else {
            let possible = PARTS.map(|(name, _)| name).join(", ");
            return self.refuse(format!("EXTRACT gives {possible}; found {part}"));
        };
        let operand = self.of_kind(operand, FieldType::Timestamp, "EXTRACT")?;
        Ok(Typed::new(Expr::Extract(*known, Box::new(operand)), FieldType::Bigint))
    }

    pub(super) fn cast(&mut self, operand: &ast::Expr, target: &str) -> Lowered {
        let kind = match target.to_uppercase().as_str() {
            "DOUBLE" | "DOUBLE PRECISION" | "FLOAT" | "REAL" => FieldType::Double,
            "BIGINT" | "INT" | "INTEGER" => FieldType::Bigint,
            "BOOLEAN" => FieldType::Boolean,
            "VARCHAR" | "STRING" => FieldType::String,
            "TIMESTAMP" => FieldType::Timestamp,
            _ => {
                return self
                    .refuse(format!("CAST gives DOUBLE, BIGINT, BOOLEAN, VARCHAR or TIMESTAMP; found {target}"));
            }
        };
        let Typed { expr, kind: from } = self.lower(operand)?;
        use FieldType::{Bigint, String, Timestamp};
        match from {
            Some(Timestamp) if !matches!(kind, Bigint | Timestamp) => {
                self.look_at(operand.span());
                return self
                    .refuse(format!("a timestamp can be cast to BIGINT (epoch milliseconds) only; found {target}"));
            }
            Some(from) if kind == Timestamp && !matches!(from, String | Timestamp) => {
                self.look_at(operand.span());
                return self.refuse(format!(
                    "`{operand}` is a {from}; only text such as '2026-01-31 12:00:00' can be cast to TIMESTAMP"
                ));
            }
            _ => {}
        }
        Ok(Typed::new(Expr::Cast(kind, Box::new(expr)), kind))
    }
}
