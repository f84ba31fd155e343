//! What is wrong with a configuration, shown on the text it stands in.

use std::fmt;
use std::ops::Range;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

/// Bytes of a line that is still drawn: miette panics where a column does not fit 16 bits, and nobody reads it long before.
const LINE_BYTES_MAX: usize = 4096;

/// One thing to mend: a sentence, the place, what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    /// Bytes of the text.
    pub span: Range<usize>,
    /// A few words beside the marked text.
    pub here: String,
    /// What is allowed, or what to do.
    pub help: String,
}

/// A configuration that cannot be used, with everything that is wrong with it. `Display` shows each problem with the file,
/// the line and the offending text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The file, as it was named.
    pub name: String,
    pub text: String,
    pub problems: Vec<Problem>,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => writeln!(f, "{} cannot be used:", self.name)?,
            n => writeln!(f, "{} cannot be used, for {n} reasons:", self.name)?,
        }
        self.problems.iter().try_for_each(|problem| render(f, &self.name, &self.text, problem))
    }
}

/// Plain Unicode without colours: the same text in a terminal, in a log and in a test.
fn render(f: &mut fmt::Formatter<'_>, name: &str, text: &str, problem: &Problem) -> fmt::Result {
    let mut diagnostic = MietteDiagnostic::new(&problem.message);
    if !problem.help.is_empty() {
        diagnostic = diagnostic.with_help(&problem.help);
    }
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(120);
    if text.is_empty() {
        return handler.render_report(f, Report::new(diagnostic).as_ref());
    }
    let start = text.floor_char_boundary(problem.span.start.min(text.len() - 1));
    let line = text[..start].rfind('\n').map_or(0, |newline| newline + 1)
        ..text[start..].find('\n').map_or(text.len(), |length| start + length);
    if line.len() > LINE_BYTES_MAX {
        let (number, column) =
            (text[..line.start].matches('\n').count() + 1, text[line.start..start].chars().count() + 1);
        diagnostic.message = format!("{}, in line {number}, column {column}", problem.message);
        return handler.render_report(f, Report::new(diagnostic).as_ref());
    }
    // The head of a long text says which one it is; a frame around twenty lines of SQL hides what is wrong with it.
    let end = problem.span.end.clamp(start, line.end);
    let label = LabeledSpan::new(Some(problem.here.clone()), start, end - start);
    let report = Report::new(diagnostic.with_label(label)).with_source_code(NamedSource::new(name, text.to_owned()));
    handler.render_report(f, report.as_ref())
}

/// The feature query and where it stands, so that an error in it is shown in the file that a person edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureQuery {
    pub sql: String,
    /// The file that holds it: the `.sql` file, or the configuration itself.
    pub name: String,
    /// The whole text of that file, and where in it the query begins.
    pub text: String,
    pub start: usize,
}

impl FeatureQuery {
    /// The query in a file of its own, or written by larum: nothing around it.
    #[must_use]
    pub fn alone(name: String, sql: String) -> Self {
        Self { text: sql.clone(), sql, name, start: 0 }
    }

    /// An error in the query, as whoever compiled it found it: `line` and `column` count characters from 1.
    #[must_use]
    pub fn refused(&self, line: usize, column: usize, message: &str) -> Refused {
        let before: usize = self.sql.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest = &self.sql[before..];
        let at = before + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(at, _)| at);
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let rest = &self.sql[at..];
        let length = match rest.find(|c| !word(c)) {
            Some(0) => rest.chars().next().map_or(0, char::len_utf8),
            Some(length) => length,
            None => rest.len(),
        };
        let span = self.start + at..self.start + at + length;
        let problem = Problem { message: message.into(), span, here: "here".into(), help: String::new() };
        Refused { name: self.name.clone(), text: self.text.clone(), problems: vec![problem] }
    }
}
