//! From sqlparser's tree to typed expressions. What is not in the subset is refused with its place, never ignored.

use crate::event::{EventSpec, Field, FieldType, Schema, Value, time::parse_sql_timestamp};
use crate::features::error::QueryError;
use crate::features::expr::{Arithmetic, Comparison, Expr};
use crate::features::frames::Shape;
use crate::features::layout::Layout;
use crate::features::scalar::Function;
use crate::suggest::nearest;
use sqlparser::ast::{self, BinaryOperator, Ident, Spanned, UnaryOperator};
use sqlparser::tokenizer::{Location, Span};
use std::borrow::Cow;

/// Deeper expressions are refused: the evaluator recurses.
const DEPTH_MAX: usize = 64;

/// An expression and its type; `None` is a NULL that has none yet.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub(super) expr: Expr,
    pub(super) kind: Option<FieldType>,
}

impl Typed {
    pub(super) fn new(expr: Expr, kind: FieldType) -> Self {
        Self { expr, kind: Some(kind) }
    }
}

/// What the compilation of one query has gathered so far.
pub(super) struct Compiler<'c> {
    pub(super) schema: &'c Schema,
    pub(super) spec: &'c EventSpec,
    /// The fields named so far, in slot order.
    pub(super) inputs: Vec<Field>,
    pub(super) layout: Layout,
    pub(super) named_windows: Vec<(String, Shape)>,
    /// Why no window call may stand here, if so.
    pub(super) no_window_because: Option<&'static str>,
    /// The last place seen: sqlparser gives some nodes none.
    pub(super) here: Location,
    pub(super) depth: usize,
}

type Lowered = Result<Typed, QueryError>;

impl Compiler<'_> {
    pub(super) fn refuse<T>(&self, message: impl Into<String>) -> Result<T, QueryError> {
        Err(QueryError { line: self.here.line.max(1), column: self.here.column.max(1), message: message.into() })
    }

    pub(super) fn look_at(&mut self, span: Span) {
        if span.start.line > 0 {
            self.here = span.start;
        }
    }

    pub(super) fn lower(&mut self, expr: &ast::Expr) -> Lowered {
        self.look_at(expr.span());
        let here = self.here;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.refuse(format!("the expression is nested more than {DEPTH_MAX} deep"));
        }
        let lowered = self.lower_here(expr, here);
        self.depth -= 1;
        self.here = here;
        lowered
    }

    fn lower_here(&mut self, expr: &ast::Expr, here: Location) -> Lowered {
        use ast::Expr as E;
        match expr {
            E::Identifier(ident) => self.field(ident),
            E::CompoundIdentifier(parts) => match &parts[..] {
                [table, field] if table.value.eq_ignore_ascii_case("events") => self.field(field),
                _ => self.refuse(format!("found `{expr}`; a field is named alone, or as events.field")),
            },
            E::Nested(inner) => self.lower(inner),
            E::Value(value) => self.literal(&value.value),
            E::TypedString(typed) if typed.data_type.to_string() == "TIMESTAMP" => {
                let text = typed.value.clone().into_string().unwrap_or_default();
                match parse_sql_timestamp(&text) {
                    Some(ms) => Ok(Typed::new(Expr::Literal(Value::Timestamp(ms)), FieldType::Timestamp)),
                    None => self.refuse(format!("found TIMESTAMP '{text}'; write TIMESTAMP '2026-01-31 12:00:00' (UTC)")),
                }
            }
            E::UnaryOp { op, expr } => self.unary(op, expr),
            E::BinaryOp { left, op, right } => self.binary(left, op, right, here),
            E::IsNull(inner) => Ok(boolean(Expr::IsNull(Box::new(self.lower(inner)?.expr)))),
            E::IsNotNull(inner) => Ok(boolean(not(Expr::IsNull(Box::new(self.lower(inner)?.expr))))),
            E::IsTrue(inner) => Ok(boolean(Expr::Is(true, self.condition(inner)?))),
            E::IsNotTrue(inner) => Ok(boolean(not(Expr::Is(true, self.condition(inner)?)))),
            E::IsFalse(inner) => Ok(boolean(Expr::Is(false, self.condition(inner)?))),
            E::IsNotFalse(inner) => Ok(boolean(not(Expr::Is(false, self.condition(inner)?)))),
            E::IsUnknown(inner) => Ok(boolean(Expr::IsNull(self.condition(inner)?))),
            E::IsNotUnknown(inner) => Ok(boolean(not(Expr::IsNull(self.condition(inner)?)))),
            E::InList { expr, list, negated } => {
                let mut all = vec![self.lower(expr)?];
                for item in list {
                    all.push(self.lower(item)?);
                }
                self.here = here;
                let (mut all, _) = self.unify(all, "IN")?;
                let needle = all.remove(0);
                Ok(boolean(negate_if(*negated, Expr::In(Box::new(needle), all))))
            }
            E::Between { expr, negated, low, high } => {
                let all = vec![self.lower(expr)?, self.lower(low)?, self.lower(high)?];
                self.here = here;
                let (all, _) = self.unify(all, "BETWEEN")?;
                let [value, low, high] = all.try_into().expect("unify keeps the number of expressions");
                let from = compare(Comparison::GreaterOrEqual, value.clone(), low);
                let to = compare(Comparison::LessOrEqual, value, high);
                Ok(boolean(negate_if(*negated, Expr::And(Box::new(from), Box::new(to)))))
            }
            E::Like { negated, any: false, expr, pattern, escape_char } => {
                let text = Box::new(self.of_kind(expr, FieldType::String, "LIKE")?);
                let pattern = Box::new(self.of_kind(pattern, FieldType::String, "LIKE")?);
                let escape = match escape_char.as_deref().map(|e| self.lower(e)).transpose()? {
                    None => None,
                    Some(Typed { expr: Expr::Literal(Value::Text(text)), .. }) if text.chars().count() == 1 => {
                        text.chars().next()
                    }
                    Some(_) => return self.refuse("ESCAPE takes one character in quotes"),
                };
                Ok(boolean(negate_if(*negated, Expr::Like { text, pattern, escape })))
            }
            E::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), here)
            }
            E::Cast { kind, expr, data_type, format: None } if *kind != ast::CastKind::DoubleColon => {
                self.cast(expr, &data_type.to_string())
            }
            E::Cast { .. } => self.refuse("write the cast as CAST(x AS DOUBLE)"),
            E::Function(function) => self.function(function),
            E::Extract { field, expr, .. } => self.extract(&field.to_string(), expr),
            E::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                self.rounding(Function::Floor, expr)
            }
            E::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                self.rounding(Function::Ceil, expr)
            }
            E::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let mut arguments = vec![self.of_kind(expr, FieldType::String, "SUBSTRING")?];
                arguments.push(self.of_kind(from, FieldType::Bigint, "SUBSTRING")?);
                if let Some(length) = substring_for {
                    arguments.push(self.of_kind(length, FieldType::Bigint, "SUBSTRING")?);
                }
                Ok(Typed::new(Expr::Call(Function::Substring, arguments), FieldType::String))
            }
            E::Interval(_) => self.refuse("found an INTERVAL; it can stand in a window's RANGE only"),
            E::Subquery(_) | E::Exists { .. } | E::InSubquery { .. } => {
                self.refuse("found a subquery; a feature query is one SELECT over events")
            }
            other => self.refuse(format!(
                "found `{other}`; possible are fields, literals, arithmetic, comparisons, AND, OR, NOT, IS, IN, BETWEEN, LIKE, CASE, \
                 CAST, EXTRACT, functions and window calls"
            )),
        }
    }

    fn field(&mut self, ident: &Ident) -> Lowered {
        let Some(field) = self.schema.field(&ident.value) else {
            let names = || self.schema.fields().iter().map(|f| f.name.as_str());
            let hint = match nearest(&ident.value, names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("declared in [event.fields] are {}", names().collect::<Vec<_>>().join(", ")),
            };
            return self.refuse(format!("there is no field `{}`; {hint}", ident.value));
        };
        let slot = self.inputs.iter().position(|f| f.name == field.name).unwrap_or_else(|| {
            self.inputs.push(field.clone());
            self.inputs.len() - 1
        });
        Ok(Typed::new(Expr::Field { slot, name: field.name.as_str().into() }, field.kind))
    }

    fn literal(&mut self, value: &ast::Value) -> Lowered {
        let (value, kind) = match value {
            ast::Value::Null => return Ok(Typed { expr: Expr::Literal(Value::Null), kind: None }),
            ast::Value::Boolean(b) => (Value::Boolean(*b), FieldType::Boolean),
            ast::Value::SingleQuotedString(text) => (Value::Text(Cow::Owned(text.clone())), FieldType::String),
            ast::Value::Number(text, _) => match (text.parse::<i64>(), text.parse::<f64>()) {
                (Ok(n), _) => (Value::Bigint(n), FieldType::Bigint),
                (_, Ok(x)) if x.abs() <= crate::event::NUMBER_MAX => (Value::Double(x), FieldType::Double),
                _ => return self.refuse(format!("the number {text} is beyond 1e30")),
            },
            other => return self.refuse(format!("found {other}; literals are numbers, 'text', TRUE, FALSE and NULL")),
        };
        Ok(Typed::new(Expr::Literal(value), kind))
    }

    fn unary(&mut self, op: &UnaryOperator, operand: &ast::Expr) -> Lowered {
        match op {
            UnaryOperator::Not => Ok(boolean(Expr::Not(self.condition(operand)?))),
            UnaryOperator::Plus => self.number(operand, "+"),
            UnaryOperator::Minus => {
                let Typed { expr, kind } = self.number(operand, "-")?;
                let expr = match expr {
                    Expr::Literal(Value::Bigint(n)) if n != i64::MIN => Expr::Literal(Value::Bigint(-n)),
                    Expr::Literal(Value::Double(x)) => Expr::Literal(Value::Double(-x)),
                    expr => Expr::Negate(Box::new(expr)),
                };
                Ok(Typed { expr, kind })
            }
            other => self.refuse(format!("the operator {other} is not there; possible are -, + and NOT")),
        }
    }

    fn binary(&mut self, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr, here: Location) -> Lowered {
        use {Arithmetic as A, BinaryOperator as B, Comparison as C};
        let arithmetic = match op {
            B::Plus => Some(A::Add),
            B::Minus => Some(A::Subtract),
            B::Multiply => Some(A::Multiply),
            B::Divide => Some(A::Divide),
            B::Modulo => Some(A::Modulo),
            _ => None,
        };
        if let Some(op) = arithmetic {
            let name = op.to_string();
            let (left, right) = (self.number(left, &name)?, self.number(right, &name)?);
            let kind = promoted(&[left.kind, right.kind]);
            return Ok(Typed::new(Expr::Arithmetic(op, Box::new(left.expr), Box::new(right.expr)), kind));
        }
        let comparison = match op {
            B::Eq => Some(C::Equal),
            B::NotEq => Some(C::NotEqual),
            B::Lt => Some(C::Less),
            B::LtEq => Some(C::LessOrEqual),
            B::Gt => Some(C::Greater),
            B::GtEq => Some(C::GreaterOrEqual),
            _ => None,
        };
        if let Some(op) = comparison {
            let sides = vec![self.lower(left)?, self.lower(right)?];
            self.here = here;
            let (sides, _) = self.unify(sides, &op.to_string())?;
            let [left, right] = sides.try_into().expect("unify keeps the number of expressions");
            return Ok(boolean(compare(op, left, right)));
        }
        match op {
            B::And => Ok(boolean(Expr::And(self.condition(left)?, self.condition(right)?))),
            B::Or => Ok(boolean(Expr::Or(self.condition(left)?, self.condition(right)?))),
            B::StringConcat => {
                let sides =
                    vec![self.of_kind(left, FieldType::String, "||")?, self.of_kind(right, FieldType::String, "||")?];
                Ok(Typed::new(Expr::Call(Function::Concat, sides), FieldType::String))
            }
            other => self
                .refuse(format!("the operator {other} is not there; possible are + - * / % || = <> < <= > >= AND OR")),
        }
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        here: Location,
    ) -> Lowered {
        let operand = operand.map(|o| self.lower(o)).transpose()?;
        let (mut whens, mut results) = (Vec::new(), Vec::new());
        for ast::CaseWhen { condition, result } in conditions {
            whens.push(match &operand {
                None => *self.condition(condition)?,
                Some(operand) => {
                    let sides = vec![operand.clone(), self.lower(condition)?];
                    let (sides, _) = self.unify(sides, "CASE")?;
                    let [left, right] = sides.try_into().expect("unify keeps the number of expressions");
                    compare(Comparison::Equal, left, right)
                }
            });
            results.push(self.lower(result)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.lower(otherwise)?,
            None => Typed { expr: Expr::Literal(Value::Null), kind: None },
        });
        self.here = here;
        let (mut results, kind) = self.unify(results, "CASE")?;
        let otherwise = Box::new(results.pop().expect("ELSE was pushed last"));
        Ok(Typed { expr: Expr::Case { arms: whens.into_iter().zip(results).collect(), otherwise }, kind })
    }

    /// A boolean expression.
    pub(super) fn condition(&mut self, expr: &ast::Expr) -> Result<Box<Expr>, QueryError> {
        self.of_kind(expr, FieldType::Boolean, "a condition").map(Box::new)
    }

    /// An expression of exactly this type (or NULL).
    pub(super) fn of_kind(&mut self, expr: &ast::Expr, kind: FieldType, user: &str) -> Result<Expr, QueryError> {
        let typed = self.lower(expr)?;
        match typed.kind {
            Some(found) if found != kind => {
                self.look_at(expr.span());
                self.refuse(format!("`{expr}` is a {found}; {user} takes a {kind}"))
            }
            _ => Ok(typed.expr),
        }
    }

    /// A double or bigint (or NULL, which counts as a double).
    pub(super) fn number(&mut self, expr: &ast::Expr, user: &str) -> Lowered {
        let typed = self.lower(expr)?;
        match typed.kind {
            Some(FieldType::Double | FieldType::Bigint) => Ok(typed),
            None => Ok(Typed::new(typed.expr, FieldType::Double)),
            Some(found) => {
                self.look_at(expr.span());
                let hint = match found {
                    FieldType::Timestamp => "; the time between two is TIMESTAMPDIFF(SECOND, from, to)",
                    FieldType::Boolean => "; write CASE WHEN x THEN 1 ELSE 0 END",
                    _ => "",
                };
                self.refuse(format!("`{expr}` is a {found}; {user} takes numbers{hint}"))
            }
        }
    }

    /// One type for all: bigints become doubles where there is a double; `None` where all are NULL.
    pub(super) fn unify(&self, all: Vec<Typed>, user: &str) -> Result<(Vec<Expr>, Option<FieldType>), QueryError> {
        let mut kind = None;
        for typed in &all {
            kind = match (kind, typed.kind) {
                (known, None) => known,
                (None, found) => found,
                (Some(a), Some(b)) if a == b => Some(a),
                (Some(FieldType::Double | FieldType::Bigint), Some(FieldType::Double | FieldType::Bigint)) => {
                    Some(FieldType::Double)
                }
                (Some(a), Some(b)) => {
                    return self.refuse(format!("{user} takes values of one type; found {a} and {b}"));
                }
            };
        }
        let cast = |typed: Typed| match (kind, typed.kind, typed.expr) {
            (Some(FieldType::Double), Some(FieldType::Bigint), Expr::Literal(Value::Bigint(n))) => {
                Expr::Literal(Value::Double(n as f64))
            }
            (Some(FieldType::Double), Some(FieldType::Bigint), expr) => Expr::Cast(FieldType::Double, Box::new(expr)),
            (_, _, expr) => expr,
        };
        Ok((all.into_iter().map(cast).collect(), kind))
    }
}

/// The type of an arithmetic result.
pub(super) fn promoted(kinds: &[Option<FieldType>]) -> FieldType {
    if kinds.iter().all(|k| *k == Some(FieldType::Bigint)) { FieldType::Bigint } else { FieldType::Double }
}

fn boolean(expr: Expr) -> Typed {
    Typed::new(expr, FieldType::Boolean)
}

fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

fn negate_if(negated: bool, expr: Expr) -> Expr {
    if negated { not(expr) } else { expr }
}

fn compare(op: Comparison, left: Expr, right: Expr) -> Expr {
    Expr::Compare(op, Box::new(left), Box::new(right))
}
