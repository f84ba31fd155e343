//! An upload of labels -> its lines, each a verdict or the reason why it is none.

use super::body::Format;
use super::error::ApiError;
use crate::wire::LabelRecord;
use axum::http::StatusCode;
use serde_json::{Map, Value};

/// Lines of one upload: each asks the store whether its event is known.
pub(super) const LINES_MAX: usize = 10_000;
const EVENT_ID_BYTES_MAX: usize = 4_096;
const WHO_BYTES_MAX: usize = 256;
const NOTE_BYTES_MAX: usize = 4_096;
const CSV_COLUMNS: [&str; 5] = ["event_id", "label", "who", "note", "at"];

/// One line of an upload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1: the line of the text, or the place in a JSON array.
    pub(super) number: u64,
    /// As far as it could be read.
    pub(super) event_id: Option<String>,
    pub(super) verdict: Result<LabelRecord, String>,
}

/// Every line of the body, in its order.
///
/// # Errors
/// When the body as a whole cannot be used: no JSON, no known columns, no line, too many.
pub(super) fn parse(format: Format, body: &[u8]) -> Result<Vec<Line>, ApiError> {
    let lines = match format {
        Format::Json => json(body)?,
        Format::Ndjson => ndjson(body),
        Format::Csv => csv(body)?,
    };
    if lines.is_empty() {
        return Err(ApiError::unprocessable("empty", "the request holds no label"));
    }
    if lines.len() > LINES_MAX {
        let message = format!("{} labels in one request: send at most {LINES_MAX}", lines.len());
        return Err(ApiError::unprocessable("too_many", message));
    }
    Ok(lines)
}

fn json(body: &[u8]) -> Result<Vec<Line>, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "broken_json", format!("the body is not JSON: {error}"))
    })?;
    let labels = match body {
        Value::Array(labels) => labels,
        label @ Value::Object(_) => vec![label],
        _ => {
            return Err(ApiError::unprocessable(
                "not_a_label",
                "send one label, {\"event_id\", \"label\"}, or a list of them",
            ));
        }
    };
    Ok(labels.into_iter().zip(1..).map(|(label, number)| line(number, label)).collect())
}

fn ndjson(body: &[u8]) -> Vec<Line> {
    let texts = body.split(|&byte| byte == b'\n').zip(1..).filter(|(text, _)| !text.trim_ascii().is_empty());
    let read = |(text, number): (&[u8], u64)| match serde_json::from_slice(text) {
        Ok(label) => line(number, label),
        Err(error) => Line { number, event_id: None, verdict: Err(format!("not JSON (column {})", error.column())) },
    };
    texts.map(read).collect()
}

fn csv(body: &[u8]) -> Result<Vec<Line>, ApiError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(body);
    let header =
        reader.headers().map_err(|_| ApiError::unprocessable("broken_csv", "the header is not text in UTF-8"))?.clone();
    if header.iter().all(str::is_empty) {
        return Ok(Vec::new());
    }
    for (place, name) in header.iter().enumerate() {
        let known = CSV_COLUMNS.contains(&name);
        if !known || header.iter().take(place).any(|earlier| earlier == name) {
            let what = if known { "comes twice" } else { "is not known" };
            let message =
                format!("the column {name:?} {what}: the header names event_id, label and optionally who, note, at");
            return Err(ApiError::unprocessable("unknown_column", message));
        }
    }
    for needed in ["event_id", "label"] {
        if !header.iter().any(|name| name == needed) {
            return Err(ApiError::unprocessable(
                "missing_column",
                format!("the header (line 1) does not name the column {needed}"),
            ));
        }
    }
    let mut lines = Vec::new();
    let mut numbers = CsvLines::new(body);
    for record in reader.records() {
        lines.push(match record {
            Ok(record) => {
                let number = numbers.at(record.position());
                if record.len() == header.len() {
                    let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                    line(
                        number,
                        cells.map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect::<Map<_, _>>().into(),
                    )
                } else {
                    let reason = format!("{} cells where the header has {}", record.len(), header.len());
                    Line { number, event_id: None, verdict: Err(reason) }
                }
            }
            Err(error) => {
                let number = numbers.at(error.position());
                Line { number, event_id: None, verdict: Err("not text in UTF-8".into()) }
            }
        });
    }
    Ok(lines)
}

/// The lines at which the records of a CSV text begin. The reader's own count is one behind after CRLF and empty lines.
#[derive(Debug)]
pub(crate) struct CsvLines<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl<'a> CsvLines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, byte: 0, line: 1 }
    }

    /// The line of a record, from 1. Records are asked about in their order.
    pub(crate) fn at(&mut self, position: Option<&csv::Position>) -> u64 {
        let start = position.map_or(0, |position| usize::try_from(position.byte()).unwrap_or(usize::MAX));
        while let Some(&byte) = self.text.get(self.byte)
            && (self.byte < start || matches!(byte, b'\r' | b'\n'))
        {
            self.line += u64::from(byte == b'\n');
            self.byte += 1;
        }
        self.line
    }
}

fn line(number: u64, label: Value) -> Line {
    let event_id = label.get("event_id").and_then(Value::as_str).map(str::to_owned);
    let verdict = serde_json::from_value::<LabelRecord>(label).map_err(|error| error.to_string()).and_then(check);
    Line { number, event_id, verdict }
}

/// What the types leave open: lengths, and that `at` is a time.
fn check(record: LabelRecord) -> Result<LabelRecord, String> {
    let bounded = [
        ("event_id", Some(&record.event_id), EVENT_ID_BYTES_MAX),
        ("who", record.who.as_ref(), WHO_BYTES_MAX),
        ("note", record.note.as_ref(), NOTE_BYTES_MAX),
    ];
    for (name, text, bytes_max) in bounded {
        if text.is_some_and(|text| text.len() > bytes_max) {
            return Err(format!("{name} is longer than {bytes_max} bytes"));
        }
    }
    if record.event_id.is_empty() {
        return Err("event_id is empty".into());
    }
    if let Some(at) = &record.at
        && at.parse::<jiff::Timestamp>().is_err()
    {
        return Err(format!("at is {at:?}, which is no time in RFC 3339, such as 2026-01-31T08:00:00Z"));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(format: Format, body: &str) -> Vec<(u64, String)> {
        let lines = parse(format, body.as_bytes()).unwrap();
        lines.into_iter().map(|line| (line.number, line.verdict.err().unwrap_or_default())).collect()
    }

    fn refused(format: Format, body: &str) -> String {
        format!("{:?}", parse(format, body.as_bytes()).unwrap_err())
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let csv = parse(
            Format::Csv,
            b"event_id,label,who,note,at\r\na, anomaly ,ann,\"two\nlines\",2026-01-31T08:00:00Z\r\nb,normal,,,\r\n",
        )
        .unwrap();
        let json = br#"[{"event_id":"a","label":"anomaly","who":"ann","note":"two\nlines","at":"2026-01-31T08:00:00Z"},{"event_id":"b","label":"normal"}]"#;
        let json = parse(Format::Json, json).unwrap();
        let ndjson = br#"{"event_id":"a","label":"anomaly","who":"ann","note":"two\nlines","at":"2026-01-31T08:00:00Z"}

            {"event_id":"b","label":"normal"}"#;
        let ndjson = parse(Format::Ndjson, ndjson).unwrap();
        let numbers = |lines: &[Line]| lines.iter().map(|line| line.number).collect::<Vec<_>>();
        assert_eq!((numbers(&csv), numbers(&json), numbers(&ndjson)), (vec![2, 4], vec![1, 2], vec![1, 3]));
        let verdicts = |lines: Vec<Line>| lines.into_iter().map(|line| line.verdict.unwrap()).collect::<Vec<_>>();
        let csv = verdicts(csv);
        assert_eq!(csv, verdicts(json));
        assert_eq!(csv, verdicts(ndjson));
    }

    #[test]
    fn every_line_has_its_reason() {
        let lines = "{\"event_id\":\"a\",\"label\":\"odd\"}\n{\n{\"event_id\":\"b\",\"label\":\"normal\",\"x\":1}\n{\"event_id\":\"c\",\"label\":\"normal\",\"at\":\"noon\"}\n\
                     {\"event_id\":\"\",\"label\":\"normal\"}\n{\"label\":\"normal\"}\n{\"event_id\":\"d\",\"label\":\"normal\"}";
        insta::assert_debug_snapshot!(reasons(Format::Ndjson, lines));
        assert_eq!(
            reasons(Format::Csv, "event_id,label\na\nb,normal\n"),
            [(2, "1 cells where the header has 2".into()), (3, String::new())]
        );
        let long = format!("event_id,label\n{},normal\n", "x".repeat(5_000));
        assert_eq!(reasons(Format::Csv, &long), [(2, "event_id is longer than 4096 bytes".into())]);
    }

    #[test]
    fn a_body_without_labels_is_refused_as_a_whole() {
        for (format, body) in [
            (Format::Json, ""),
            (Format::Json, "[]"),
            (Format::Ndjson, "\n\n"),
            (Format::Csv, ""),
            (Format::Csv, "event_id,label\n"),
        ] {
            assert!(refused(format, body).contains("empty"), "{format:?} {body:?}");
        }
        assert!(refused(Format::Csv, "event_id,lable\na,normal").contains("unknown_column"));
        assert!(refused(Format::Csv, "event_id\na").contains("missing_column"));
        assert!(refused(Format::Csv, "label,label\na,b").contains("comes twice"));
        assert!(refused(Format::Json, "[").contains("broken_json"));
        assert!(refused(Format::Json, "3").contains("not_a_label"));
        assert!(refused(Format::Ndjson, &"{}\n".repeat(LINES_MAX + 1)).contains("too_many"));
        let sparse = parse(Format::Csv, b"event_id,label\n\n\r\na,normal\n\nb,normal").unwrap();
        assert_eq!(sparse.iter().map(|line| line.number).collect::<Vec<_>>(), [4, 6]);
        let not_utf8 = parse(Format::Csv, b"event_id,label\n\xff,normal\nb,normal\n").unwrap();
        assert!(not_utf8.len() == 2 && not_utf8[0].verdict.is_err() && not_utf8[1].verdict.is_ok());
    }
}
