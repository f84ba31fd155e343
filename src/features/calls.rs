//! Compiles window calls: what is read from the rows that a window names, and what has to be kept for it.

use crate::event::FieldType;
use crate::features::aggregate::{Cell, Reading};
use crate::features::compile::{Compiler, Typed};
use crate::features::error::QueryError;
use crate::features::expr::Expr;
use crate::features::frames::Shape;
use crate::features::layout::{Call, Extent, Frame};
use crate::features::print::identifier;
use crate::features::scalar::Function;
use sqlparser::ast::{self, Spanned};

impl Compiler<'_> {
    pub(super) fn window_call(&mut self, name: &str, call: &ast::Function) -> Result<Typed, QueryError> {
        let here = self.here;
        if let Some(because) = self.no_window_because {
            return self.refuse(format!("{name} is a window function; {because}"));
        }
        let shape = match &call.over {
            Some(ast::WindowType::WindowSpec(spec)) => self.shape(spec)?,
            Some(ast::WindowType::NamedWindow(window)) => self.named_shape(window)?,
            None => {
                return self.refuse(format!(
                    "{name} needs a window: {name}(...) OVER (PARTITION BY ... ORDER BY ... RANGE ...)"
                ));
            }
        };
        self.here = here;
        if name == "LAG" {
            return self.lag(call, shape);
        }
        let Some(extent) = shape else {
            return self.refuse(format!(
                "{name} needs a frame: ROWS BETWEEN 99 PRECEDING AND CURRENT ROW, or RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING \
                 AND CURRENT ROW; only LAG takes a window without one"
            ));
        };
        let frame = self.frame(extent);
        if name == "COUNT" && is_star(call) {
            return Ok(self.read(
                Call::Aggregate { frame, reading: Reading::Rows },
                FieldType::Bigint,
                "COUNT(*)",
                shape,
            ));
        }
        let distinct = is_distinct(call);
        let arguments = self.arguments(name, call)?;
        let [argument] = arguments[..] else {
            return self.refuse(format!("{name} takes 1 argument; found {}", arguments.len()));
        };
        let Typed { expr, kind } = self.windowless(|this| this.lower(argument))?;
        let kept = kind.unwrap_or(FieldType::Double);
        if distinct {
            return Ok(self.count_distinct(frame, expr, kept, shape));
        }
        let text = format!("{name}({expr})");
        let result = match (name, kept) {
            ("COUNT", _) => FieldType::Bigint,
            ("SUM" | "MIN" | "MAX" | "FIRST_VALUE" | "LAST_VALUE", FieldType::Bigint) => FieldType::Bigint,
            ("MIN" | "MAX" | "FIRST_VALUE" | "LAST_VALUE", FieldType::Timestamp) => FieldType::Timestamp,
            ("FIRST_VALUE" | "LAST_VALUE", FieldType::Boolean) => FieldType::Boolean,
            (_, FieldType::Double | FieldType::Bigint) => FieldType::Double,
            (_, found) => {
                let hint = match found {
                    FieldType::Boolean => "; write CASE WHEN x THEN 1 ELSE 0 END",
                    FieldType::String => "; COUNT and COUNT(DISTINCT x) take text, too",
                    _ => "",
                };
                self.look_at(argument.span());
                return self.refuse(format!("`{argument}` is a {found}; {name} takes numbers{hint}"));
            }
        };
        let argument = self.keep(expr);
        let reading = match name {
            "COUNT" => Reading::Count { count: self.cell(frame, Cell::Count(argument)) },
            "SUM" => Reading::Sum {
                count: self.cell(frame, Cell::Count(argument)),
                sum: self.cell(frame, Cell::Sum(argument)),
            },
            "AVG" => Reading::Average {
                count: self.cell(frame, Cell::Count(argument)),
                sum: self.cell(frame, Cell::Sum(argument)),
            },
            "MIN" => Reading::Extreme { at: self.cell(frame, Cell::Min(argument)) },
            "MAX" => Reading::Extreme { at: self.cell(frame, Cell::Max(argument)) },
            "FIRST_VALUE" => Reading::Value { at: self.cell(frame, Cell::First(argument)) },
            "LAST_VALUE" => Reading::Value { at: self.cell(frame, Cell::Last(argument)) },
            _ => {
                let (moments, sample) = (self.cell(frame, Cell::Moments(argument)), name.ends_with("_SAMP"));
                if name.starts_with("VAR") {
                    Reading::Variance { moments, sample }
                } else {
                    Reading::Deviation { moments, sample }
                }
            }
        };
        Ok(self.read(Call::Aggregate { frame, reading }, result, &text, shape))
    }

    fn count_distinct(&mut self, frame: usize, expr: Expr, kind: FieldType, shape: Shape) -> Typed {
        let text = format!("COUNT(DISTINCT {expr})");
        // Windows keep numbers.
        let argument = self.keep(match kind {
            FieldType::String => Expr::Call(Function::Fingerprint, vec![expr]),
            _ => expr,
        });
        let at = position_or_push(&mut self.layout.frames[frame].distinct, argument);
        self.read(Call::Distinct { frame, at }, FieldType::Bigint, &text, shape)
    }

    fn lag(&mut self, call: &ast::Function, shape: Shape) -> Result<Typed, QueryError> {
        if shape.is_some() {
            return self.refuse("LAG takes a window without a frame: OVER (PARTITION BY ... ORDER BY ...)");
        }
        let arguments = self.arguments("LAG", call)?;
        let (argument, distance, default) = match arguments[..] {
            [argument] => (argument, None, None),
            [argument, distance] => (argument, Some(distance), None),
            [argument, distance, default] => (argument, Some(distance), Some(default)),
            _ => return self.refuse(format!("LAG takes 1 to 3 arguments; found {}", arguments.len())),
        };
        let distance = distance.map_or(Ok(1), |d| self.rows_back(d))?;
        let value = self.windowless(|this| this.lower(argument))?;
        if value.kind == Some(FieldType::String) {
            self.look_at(argument.span());
            return self.refuse(format!(
                "`{argument}` is a string; LAG takes numbers, booleans and timestamps, for windows keep no text"
            ));
        }
        let mut text = format!("LAG({}, {distance}", value.expr);
        let kept = value.kind;
        let (expr, kind, default) = match default {
            None => (value.expr, kept, None),
            Some(default) => {
                let default = self.windowless(|this| this.lower(default))?;
                let (both, kind) = self.unify(vec![value, default], "LAG")?;
                let [value, default] = both.try_into().expect("unify keeps the number of expressions");
                text.push_str(&format!(", {default}"));
                (value, kind, Some(default))
            }
        };
        text.push(')');
        let argument = self.keep(expr);
        Ok(self.read(Call::Lag { argument, distance, default }, kind.unwrap_or(FieldType::Double), &text, shape))
    }

    /// Where the layout already reads the same, that is shared.
    fn read(&mut self, call: Call, kind: FieldType, text: &str, shape: Shape) -> Typed {
        let position = position_or_push(&mut self.layout.calls, call);
        let extent = match shape {
            None => String::new(),
            Some(Extent::Rows(n)) => format!(" ROWS {n} PRECEDING"),
            Some(Extent::RangeMs(ms)) => format!(" RANGE {ms} MS PRECEDING"),
        };
        let entity =
            self.spec.entity.as_deref().map_or_else(String::new, |name| format!("PARTITION BY {} ", identifier(name)));
        let time = identifier(self.spec.time.as_deref().unwrap_or_default());
        let text = format!("{text} OVER ({entity}ORDER BY {time}{extent})");
        Typed::new(Expr::Window { call: position, kind, text: text.into() }, kind)
    }

    fn keep(&mut self, expr: Expr) -> usize {
        position_or_push(&mut self.layout.arguments, expr)
    }

    fn frame(&mut self, extent: Extent) -> usize {
        let frames = &mut self.layout.frames;
        frames.iter().position(|f| f.extent == extent).unwrap_or_else(|| {
            frames.push(Frame { extent, cells: Vec::new(), width: 0, from: 0, distinct: Vec::new() });
            frames.len() - 1
        })
    }

    /// The place of the cell in its frame's aggregate.
    fn cell(&mut self, frame: usize, cell: Cell) -> usize {
        let frame = &mut self.layout.frames[frame];
        let mut at = 0;
        for known in &frame.cells {
            if *known == cell {
                return at;
            }
            at += known.width();
        }
        frame.cells.push(cell);
        frame.width += cell.width();
        at
    }

    fn windowless<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, QueryError>) -> Result<T, QueryError> {
        let before = self.no_window_because.replace("it cannot stand inside another one");
        let result = f(self);
        self.no_window_because = before;
        result
    }
}

fn position_or_push<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

fn is_star(call: &ast::Function) -> bool {
    matches!(&call.args, ast::FunctionArguments::List(list) if list.duplicate_treatment.is_none()
        && list.clauses.is_empty()
        && matches!(list.args[..], [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard)]))
        && call.filter.is_none()
        && call.null_treatment.is_none()
}

fn is_distinct(call: &ast::Function) -> bool {
    matches!(&call.args, ast::FunctionArguments::List(list)
        if list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct))
}
