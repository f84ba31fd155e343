//! Compiles window calls: which rows a window names, and which aggregate of them is read.

use crate::event::FieldType;
use crate::features::aggregate::{Cell, Reading};
use crate::features::compile::{Compiler, Typed};
use crate::features::error::{QueryError, nearest};
use crate::features::expr::Expr;
use crate::features::functions::UNITS;
use crate::features::print::identifier;
use crate::features::window::{Call, Extent, Frame};
use sqlparser::ast::{self, Spanned, WindowFrameBound};

/// LAG and ROWS reach back at most so many rows.
const ROWS_BACK_MAX: u64 = 1_000_000;

/// What a window says beyond PARTITION BY and ORDER BY, which are always the same. `None`: no frame.
pub(super) type Shape = Option<Extent>;

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
        let arguments = self.arguments(name, call)?;
        let [argument] = arguments[..] else {
            return self.refuse(format!("{name} takes 1 argument; found {}", arguments.len()));
        };
        let Typed { expr, kind } = self.windowless(|this| this.lower(argument))?;
        let text = format!("{name}({expr})");
        let kept = kind.unwrap_or(FieldType::Double);
        let result = match (name, kept) {
            ("COUNT", _) => FieldType::Bigint,
            ("SUM" | "MIN" | "MAX", FieldType::Bigint) => FieldType::Bigint,
            ("MIN" | "MAX", FieldType::Timestamp) => FieldType::Timestamp,
            (_, FieldType::Double | FieldType::Bigint) => FieldType::Double,
            (_, found) => {
                let hint = if found == FieldType::Boolean { "; write CASE WHEN x THEN 1 ELSE 0 END" } else { "" };
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
            return self.refuse(format!("`{argument}` is a string; LAG of text is not there yet"));
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
        let by = |name: &Option<String>| identifier(name.as_deref().unwrap_or_default());
        let (entity, time) = (by(&self.spec.entity), by(&self.spec.time));
        let text = format!("{text} OVER (PARTITION BY {entity} ORDER BY {time}{extent})");
        Typed::new(Expr::Window { call: position, kind, text: text.into() }, kind)
    }

    fn keep(&mut self, expr: Expr) -> usize {
        position_or_push(&mut self.layout.arguments, expr)
    }

    fn frame(&mut self, extent: Extent) -> usize {
        let frames = &mut self.layout.frames;
        frames.iter().position(|f| f.extent == extent).unwrap_or_else(|| {
            frames.push(Frame { extent, cells: Vec::new(), width: 0 });
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

    fn named_shape(&mut self, window: &ast::Ident) -> Result<Shape, QueryError> {
        if let Some((_, shape)) = self.named_windows.iter().find(|(name, _)| *name == window.value) {
            return Ok(*shape);
        }
        let names = || self.named_windows.iter().map(|(name, _)| name.as_str());
        let hint = match nearest(&window.value, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "define it: WINDOW w AS (PARTITION BY ... ORDER BY ...)".to_owned(),
        };
        self.look_at(window.span);
        self.refuse(format!("there is no window `{}`; {hint}", window.value))
    }

    pub(super) fn shape(&mut self, spec: &ast::WindowSpec) -> Result<Shape, QueryError> {
        if let Some(base) = &spec.window_name {
            self.look_at(base.span);
            return self.refuse("a window made from another one is not there yet: write it out");
        }
        let (Some(entity), Some(time)) = (self.spec.entity.clone(), self.spec.time.clone()) else {
            return self
                .refuse("windows are kept per entity and by event time: configure [event] entity and time first");
        };
        match &spec.partition_by[..] {
            [ast::Expr::Identifier(by)] if by.value == entity => {}
            found => {
                if let Some(first) = found.first() {
                    self.look_at(first.span());
                }
                return self.refuse(format!(
                    "windows are kept per entity: write PARTITION BY {}; found {}",
                    identifier(&entity),
                    listed(found)
                ));
            }
        }
        match &spec.order_by[..] {
            [by] if is_ascending(by) && matches!(&by.expr, ast::Expr::Identifier(by) if by.value == time) => {}
            found => {
                if let Some(first) = found.first() {
                    self.look_at(first.span());
                }
                return self.refuse(format!(
                    "windows go by event time: write ORDER BY {}; found {}",
                    identifier(&time),
                    listed(found)
                ));
            }
        }
        spec.window_frame.as_ref().map(|frame| self.extent(frame)).transpose()
    }

    fn extent(&mut self, frame: &ast::WindowFrame) -> Result<Extent, QueryError> {
        if !matches!(frame.end_bound, None | Some(WindowFrameBound::CurrentRow)) {
            return self.refuse("a frame ends at CURRENT ROW: what follows has not arrived yet");
        }
        let start = match &frame.start_bound {
            WindowFrameBound::Preceding(Some(start)) => start,
            WindowFrameBound::Preceding(None) => {
                return self.refuse("UNBOUNDED PRECEDING is not there yet; name a number of rows or an INTERVAL");
            }
            other => return self.refuse(format!("a frame starts at n PRECEDING; found {other}")),
        };
        self.look_at(start.span());
        match (frame.units, &**start) {
            (ast::WindowFrameUnits::Rows, start) => self.rows_back(start).map(Extent::Rows),
            (ast::WindowFrameUnits::Range, ast::Expr::Interval(interval)) => {
                self.interval_ms(interval).map(Extent::RangeMs)
            }
            (ast::WindowFrameUnits::Range, other) => {
                self.refuse(format!("RANGE takes an interval such as INTERVAL '5' MINUTE; found {other}"))
            }
            (ast::WindowFrameUnits::Groups, _) => self.refuse("GROUPS is not there; ROWS and RANGE are"),
        }
    }

    fn rows_back(&mut self, expr: &ast::Expr) -> Result<u64, QueryError> {
        match literal(expr).and_then(|text| text.parse().ok()) {
            Some(n @ 0..=ROWS_BACK_MAX) => Ok(n),
            _ => {
                self.look_at(expr.span());
                self.refuse(format!("a number of rows is a literal from 0 to {ROWS_BACK_MAX}; found {expr}"))
            }
        }
    }

    fn interval_ms(&mut self, interval: &ast::Interval) -> Result<i64, QueryError> {
        let possible =
            "an interval is a number and one of MILLISECOND, SECOND, MINUTE, HOUR, DAY, such as INTERVAL '5' MINUTE";
        let unit = interval.leading_field.as_ref().map(ToString::to_string).unwrap_or_default().to_uppercase();
        let unit_ms =
            UNITS.iter().find(|(name, _)| unit == *name || unit.strip_suffix('S') == Some(name)).map(|(_, ms)| *ms);
        let amount = literal(&interval.value).and_then(|text| text.trim().parse::<f64>().ok());
        match (amount, unit_ms, &interval.last_field) {
            // Below 2^53 ms, the product is exact for whole numbers.
            (Some(amount), Some(unit_ms), None) if (0.0..9e15).contains(&(amount * unit_ms as f64)) => {
                Ok((amount * unit_ms as f64) as i64)
            }
            _ => self.refuse(format!("{possible}; found {interval}")),
        }
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

fn is_ascending(by: &ast::OrderByExpr) -> bool {
    matches!(by.options.sort, None | Some(ast::OrderBySort::Asc))
        && by.options.nulls_first.is_none()
        && by.with_fill.is_none()
}

fn literal(expr: &ast::Expr) -> Option<&str> {
    match expr {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(text, _), .. })
        | ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    match items {
        [] => "none".to_owned(),
        items => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
