//! Compiles the SELECT around the expressions: its clauses, its columns and their names.

use crate::event::{EventSpec, FieldType, Schema};
use crate::features::compile::Compiler;
use crate::features::error::QueryError;
use crate::features::layout::Layout;
use crate::features::plan::{Output, Plan};
use crate::features::{Column, ColumnKind};
use sqlparser::ast::{self, SelectItem, SetExpr, Spanned, Statement, TableFactor};
use sqlparser::dialect::AnsiDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Location;

const COLUMNS_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 120;

/// Columns of every scored row: a feature of the same name would hide one.
const RESERVED: [&str; 14] = [
    "event_id",
    "topic",
    "partition",
    "offset",
    "time",
    "entity",
    "score",
    "p_value",
    "alarm",
    "model_version",
    "warmup",
    "label",
    "scores",
    "contributions",
];

/// A plan whose hash is still to be taken.
pub(super) fn compile(sql: &str, schema: &Schema, spec: &EventSpec) -> Result<Plan, QueryError> {
    let statements = Parser::parse_sql(&AnsiDialect {}, sql).map_err(|error| syntax(sql, &error))?;
    let mut compiler = Compiler {
        schema,
        spec,
        inputs: Vec::new(),
        layout: Layout::default(),
        named_windows: Vec::new(),
        no_window_because: None,
        here: Location { line: 1, column: 1 },
        depth: 0,
    };
    let [Statement::Query(query)] = &statements[..] else {
        return compiler.refuse("the feature query is one SELECT over events");
    };
    let select = compiler.select(query)?;
    compiler.source(&select.from)?;
    for ast::NamedWindowDefinition(name, definition) in &select.named_window {
        compiler.look_at(name.span);
        if compiler.named_windows.iter().any(|(known, _)| *known == name.value) {
            return compiler.refuse(format!("the window `{}` is defined twice", name.value));
        }
        let ast::NamedWindowExpr::WindowSpec(window) = definition else {
            return compiler.refuse("a window made from another one is not possible: write it out");
        };
        let shape = compiler.shape(window)?;
        compiler.named_windows.push((name.value.clone(), shape));
    }
    let filter = match &select.selection {
        None => None,
        Some(condition) => {
            compiler.no_window_because = Some("WHERE cannot have one: it decides which rows the windows see");
            let filter = compiler.condition(condition)?;
            compiler.no_window_because = None;
            Some(*filter)
        }
    };
    let (mut columns, mut outputs) = (Vec::new(), Vec::new());
    for item in &select.projection {
        let (column, output) = compiler.column(item, &columns)?;
        columns.push(column);
        outputs.push(output);
    }
    if columns.len() > COLUMNS_MAX {
        return compiler.refuse(format!("the query has {} columns; at most {COLUMNS_MAX} are possible", columns.len()));
    }
    let Compiler { inputs, mut layout, .. } = compiler;
    layout.place_frames();
    let input_names = inputs.iter().map(|field| field.name.clone()).collect();
    Ok(Plan { columns, outputs, filter, inputs, input_names, layout, hash: 0 })
}

impl Compiler<'_> {
    /// The SELECT, when the query is nothing more.
    fn select<'q>(&mut self, query: &'q ast::Query) -> Result<&'q ast::Select, QueryError> {
        self.look_at(query.span());
        let ast::Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let SetExpr::Select(select) = &**body else {
            return self.refuse("the feature query is one SELECT over events, without UNION or VALUES");
        };
        let more = [
            (with.is_some(), "WITH"),
            (order_by.is_some(), "ORDER BY"),
            (limit_clause.is_some(), "LIMIT"),
            (fetch.is_some(), "FETCH"),
            (!locks.is_empty(), "FOR UPDATE"),
            (for_clause.is_some(), "FOR"),
            (settings.is_some(), "SETTINGS"),
            (format_clause.is_some(), "FORMAT"),
            (!pipe_operators.is_empty(), "|>"),
            (select.distinct.is_some(), "DISTINCT"),
            (select.select_modifiers.as_ref().is_some_and(|m| m.is_any_set()), "a modifier"),
            (select.top.is_some(), "TOP"),
            (select.exclude.is_some(), "EXCLUDE"),
            (select.into.is_some(), "INTO"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (
                !matches!(&select.group_by, ast::GroupByExpr::Expressions(by, more) if by.is_empty() && more.is_empty()),
                "GROUP BY",
            ),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (select.having.is_some(), "HAVING"),
            (select.qualify.is_some(), "QUALIFY"),
            (select.value_table_mode.is_some(), "AS STRUCT"),
            (!select.optimizer_hints.is_empty(), "a hint"),
        ];
        if let Some((_, clause)) = more.iter().find(|(found, _)| *found) {
            let hint =
                if *clause == "GROUP BY" { "; an aggregate over time is a window: AVG(x) OVER (...)" } else { "" };
            return self.refuse(format!("found {clause}; possible are SELECT, FROM events, WHERE and WINDOW{hint}"));
        }
        Ok(select)
    }

    fn source(&mut self, from: &[ast::TableWithJoins]) -> Result<(), QueryError> {
        let [ast::TableWithJoins { relation, joins }] = from else {
            return self.refuse(format!("the query reads FROM events; found {} tables", from.len()));
        };
        self.look_at(relation.span());
        match relation {
            TableFactor::Table { name, alias: None, args: None, .. }
                if joins.is_empty() && relation.to_string().eq_ignore_ascii_case("events") =>
            {
                debug_assert_eq!(name.0.len(), 1);
                Ok(())
            }
            _ => self.refuse(format!("the query reads FROM events and nothing else; found FROM {}", from[0])),
        }
    }

    fn column(&mut self, item: &SelectItem, before: &[Column]) -> Result<(Column, Output), QueryError> {
        self.look_at(item.span());
        let (expr, name) = match item {
            SelectItem::UnnamedExpr(expr @ ast::Expr::Identifier(field)) => (expr, field.value.clone()),
            SelectItem::UnnamedExpr(expr) => (expr, expr.to_string().to_lowercase()),
            SelectItem::ExprWithAlias { expr, alias } => (expr, alias.value.clone()),
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                return self.refuse(
                    "SELECT * is refused: name the features, so that a new field is not a new model by accident",
                );
            }
            SelectItem::ExprWithAliases { .. } => return self.refuse("a column has one name"),
        };
        let here = self.here;
        let typed = self.lower(expr)?;
        self.here = here;
        let Some(kind) = typed.kind else {
            return self.refuse("NULL alone has no type: write CAST(NULL AS DOUBLE)");
        };
        let lower = name.to_lowercase();
        if RESERVED.contains(&lower.as_str()) || lower.starts_with("score:") {
            return self
                .refuse(format!("the name `{name}` is taken by a column of every scored row: choose another with AS"));
        }
        if before.iter().any(|column| column.name.to_lowercase() == lower) {
            return self.refuse(format!("two features are named `{name}`: give one another name with AS"));
        }
        if name.trim().is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return self
                .refuse(format!("a feature's name has 1 to {NAME_CHARS_MAX} printable characters: give one with AS"));
        }
        let role = if kind == FieldType::String { ColumnKind::Category } else { ColumnKind::Number };
        Ok((Column { name, kind: role }, Output { expr: typed.expr, kind }))
    }
}

/// sqlparser gives the place at the end of its text, or none at the end of the query.
fn syntax(sql: &str, error: &ParserError) -> QueryError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the query is nested too deep",
    };
    let place = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, line.trim().parse().ok()?, column.trim().parse().ok()?))
    });
    let (message, line, column) = place.unwrap_or_else(|| {
        let last = sql.lines().last().unwrap_or_default();
        (text, sql.lines().count().max(1) as u64, last.chars().count() as u64 + 1)
    });
    QueryError { line, column, message: message.to_owned() }
}
