//! Compiles what a window says: whose rows, in which order, and how far back.

use crate::features::compile::Compiler;
use crate::features::error::QueryError;
use crate::features::functions::UNITS;
use crate::features::layout::Extent;
use crate::features::print::identifier;
use crate::suggest::nearest;
use sqlparser::ast::{self, Spanned, WindowFrameBound};

/// LAG and ROWS reach back at most so many rows.
const ROWS_BACK_MAX: u64 = 1_000_000;

/// What a window says beyond PARTITION BY and ORDER BY, which are always the same. `None`: no frame.
pub(super) type Shape = Option<Extent>;

impl Compiler<'_> {
    pub(super) fn named_shape(&mut self, window: &ast::Ident) -> Result<Shape, QueryError> {
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
            return self.refuse("a window made from another one is not possible: write it out");
        }
        let Some(time) = self.spec.time.clone() else {
            return self.refuse("windows go by event time: configure [event] time first");
        };
        match (&spec.partition_by[..], self.spec.entity.clone()) {
            ([ast::Expr::Identifier(by)], Some(entity)) if by.value == entity => {}
            // The entity is the Kafka key then, which has no name to write.
            ([], None) => {}
            (found, entity) => {
                if let Some(first) = found.first() {
                    self.look_at(first.span());
                }
                let found = listed(found);
                return match entity {
                    Some(entity) => self.refuse(format!(
                        "windows are kept per entity: write PARTITION BY {}; found {found}",
                        identifier(&entity)
                    )),
                    None => self.refuse(format!(
                        "windows are kept per entity, which is the Kafka key here: configure [event] entity, or leave out PARTITION BY; \
                         found {found}"
                    )),
                };
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
        match &frame.end_bound {
            None | Some(WindowFrameBound::CurrentRow) => {}
            Some(WindowFrameBound::Following(_)) => {
                return self.refuse("a frame ends at CURRENT ROW: what is FOLLOWING has not arrived yet");
            }
            Some(other) => return self.refuse(format!("a frame ends at CURRENT ROW; found {other}")),
        }
        let start = match (&frame.start_bound, frame.units) {
            (WindowFrameBound::Preceding(Some(start)), _) => start,
            (WindowFrameBound::CurrentRow, ast::WindowFrameUnits::Rows) => return Ok(Extent::Rows(0)),
            (WindowFrameBound::CurrentRow, ast::WindowFrameUnits::Range) => return Ok(Extent::RangeMs(0)),
            (WindowFrameBound::Preceding(None), _) => {
                return self.refuse(
                    "UNBOUNDED PRECEDING is not possible: a window has an edge, so that what an entity keeps has a bound; name a \
                     number of rows or an INTERVAL",
                );
            }
            (other, _) => return self.refuse(format!("a frame starts at n PRECEDING; found {other}")),
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

    pub(super) fn rows_back(&mut self, expr: &ast::Expr) -> Result<u64, QueryError> {
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
