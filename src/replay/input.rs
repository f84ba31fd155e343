//! The rows of a file: CSV or NDJSON, plain or gzip, with the columns that are no features set apart.

use super::inferred::{self, Inferred};
use super::lines::Lines;
use crate::event::{Decoder, Event, EventSpec, Field, FieldType, Reason, Record, Rejection, Value};
use anyhow::{Context, bail};
use flate2::read::MultiGzDecoder;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Without a time column, rows are this far apart.
const ROW_MS: i64 = 1_000;
/// Rows without a time column begin here: 2000-01-01T00:00:00Z, a Saturday at midnight.
const START_MS: i64 = 946_684_800_000;
const BUFFER: usize = 1 << 16;

/// The columns that are no features.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub label: Option<String>,
    pub time: Option<String>,
    pub entity: Option<String>,
    pub id: Option<String>,
}

/// A file that is not what it should be: a row of another length, a truth that is none.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InputError(String);

/// A line of a file that holds a row: the row, or why it is none.
#[derive(Debug)]
pub struct Line {
    /// From 1: where the row begins. A quoted cell may hold further lines.
    pub number: u64,
    pub row: Result<Row, String>,
}

/// One row, not yet an event.
#[derive(Debug)]
pub struct Row {
    content: Content,
    truth: Option<bool>,
}

#[derive(Debug)]
enum Content {
    Csv { cells: csv::StringRecord, header: Arc<BTreeMap<String, usize>> },
    Json(String),
}

impl Row {
    /// 0 or 1 in the label column; `None` where it is empty or there is none.
    #[must_use]
    pub fn truth(&self) -> Option<bool> {
        self.truth
    }

    /// The row as an event, by the same rules as a record from Kafka. Without a time column rows are one second apart.
    ///
    /// # Errors
    /// When a record from Kafka with these values would be a dead letter.
    pub fn event<'a>(&'a self, decoder: &Decoder, topic: &str, offset: i64) -> Result<Event<'a>, Rejection> {
        let payload = if let Content::Json(line) = &self.content { Some(line.as_bytes()) } else { None };
        // What a file says of its time is the truth: nothing in it is from the future.
        let timestamp_ms = if decoder.has_time() { i64::MAX / 2 } else { START_MS + offset * ROW_MS };
        let record = Record { offset, timestamp_ms, key: None, payload };
        match &self.content {
            Content::Json(_) => decoder.decode(topic, 0, &record),
            Content::Csv { cells, header } => {
                let mut broken = None;
                let event = decoder.decode_fields(topic, 0, &record, &mut |field: &Field| {
                    let cell = header.get(&field.name).and_then(|&at| cells.get(at)).unwrap_or("");
                    cell_value(field, cell).unwrap_or_else(|rejection| {
                        broken.get_or_insert(rejection);
                        Value::Null
                    })
                });
                broken.map_or(event, Err)
            }
        }
    }
}

/// A cell is a number, empty (missing) or text.
fn cell_value<'a>(field: &Field, cell: &'a str) -> Result<Value<'a>, Rejection> {
    if cell.is_empty() || field.kind != FieldType::String && is_missing(cell) {
        return Ok(Value::Null);
    }
    let wrong = |expected: &str| {
        let shown: String = cell.chars().take(40).collect();
        Rejection { reason: Reason::WrongType, detail: format!("column {:?}: {shown:?} is no {expected}", field.name) }
    };
    Ok(match field.kind {
        FieldType::String => Value::Text(Cow::Borrowed(cell)),
        FieldType::Double => Value::Double(cell.trim().parse().map_err(|_| wrong("number"))?),
        FieldType::Bigint => Value::Bigint(cell.trim().parse().map_err(|_| wrong("whole number"))?),
        FieldType::Boolean => match cell.trim() {
            "true" | "TRUE" | "True" | "1" => Value::Boolean(true),
            "false" | "FALSE" | "False" | "0" => Value::Boolean(false),
            _ => return Err(wrong("boolean")),
        },
        FieldType::Timestamp => {
            Value::Timestamp(file_time(cell).ok_or_else(|| wrong("time (RFC 3339 or epoch milliseconds)"))?)
        }
    })
}

/// How a number that is missing is written.
fn is_missing(cell: &str) -> bool {
    matches!(cell.trim(), "" | "-" | "NA" | "N/A" | "NaN" | "nan" | "null" | "NULL" | "None")
}

/// A time in a file: epoch milliseconds, RFC 3339, or the same without an offset, which is UTC.
fn file_time(cell: &str) -> Option<i64> {
    let cell = cell.trim();
    if let Ok(ms) = cell.parse::<i64>() {
        return Some(ms);
    }
    if let Ok(time) = cell.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let civil: jiff::civil::DateTime = cell.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

type CsvReader = csv::Reader<Lines<Box<dyn Read + Send>>>;

enum Rows {
    Csv { reader: Box<CsvReader>, header: Arc<BTreeMap<String, usize>>, cells: csv::StringRecord },
    Json { reader: Box<dyn BufRead + Send>, text: Vec<u8>, number: u64, renamed: Vec<(String, String)> },
}

/// An opened file.
pub struct Input {
    rows: Rows,
    label: Option<String>,
    row_bytes_max: usize,
    bytes: Arc<AtomicU64>,
    bytes_total: u64,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input")
            .field("label", &self.label)
            .field("bytes_total", &self.bytes_total)
            .finish_non_exhaustive()
    }
}

/// Counts what is read below the decompression, for a progress bar against the file's size.
struct Counted<R> {
    inner: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// A file to replay. Standard input is copied to a temporary file first, for its columns are looked at before it is replayed.
#[derive(Debug)]
pub struct Source {
    file: File,
    name: String,
}

impl Source {
    /// # Errors
    /// When the file cannot be opened, or standard input not be copied.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = if path.as_os_str() == "-" {
            let mut file = tempfile::tempfile().context("cannot make a temporary file for standard input")?;
            io::copy(&mut io::stdin().lock(), &mut file).context("cannot read standard input")?;
            file.flush()?;
            file
        } else {
            File::open(path).with_context(|| format!("cannot open {name:?}"))?
        };
        Ok(Self { file, name })
    }

    /// A file that is open already; `name` is what errors call it.
    #[must_use]
    pub fn of(file: File, name: &str) -> Self {
        Self { file, name: name.into() }
    }

    fn reader(&self, bytes: &Arc<AtomicU64>) -> anyhow::Result<BufReader<Box<dyn Read + Send>>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut magic = [0; 2];
        let read = file.read(&mut magic)?;
        file.seek(SeekFrom::Start(0))?;
        let counted = BufReader::with_capacity(BUFFER, Counted { inner: file, bytes: bytes.clone() });
        let reader: Box<dyn Read + Send> =
            if read == 2 && magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(counted)) } else { Box::new(counted) };
        Ok(BufReader::with_capacity(BUFFER, reader))
    }

    fn open_rows(&self, bytes: &Arc<AtomicU64>, row_bytes_max: usize) -> anyhow::Result<Rows> {
        let mut reader = self.reader(bytes)?;
        let start = reader.fill_buf().with_context(|| format!("cannot read {:?}", self.name))?;
        let first = start.iter().find(|byte| !byte.is_ascii_whitespace() && ![0xef, 0xbb, 0xbf].contains(*byte));
        if first.is_none() {
            bail!("{:?} is empty", self.name);
        }
        if first == Some(&b'{') {
            return Ok(Rows::Json { reader: Box::new(reader), text: Vec::new(), number: 0, renamed: Vec::new() });
        }
        let lines = Lines::new(Box::new(reader) as Box<dyn Read + Send>, row_bytes_max);
        let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(lines);
        let names = reader.headers().with_context(|| format!("{:?} has no header", self.name))?.clone();
        let mut header = BTreeMap::new();
        for (at, name) in names.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}');
            if header.insert(name.to_owned(), at).is_some() {
                bail!("{:?} has two columns named {name:?}", self.name);
            }
        }
        Ok(Rows::Csv { reader: Box::new(reader), header: Arc::new(header), cells: csv::StringRecord::new() })
    }

    /// # Errors
    /// When the file cannot be read, or a named column is not in it.
    pub fn rows(&self, options: &Options) -> anyhow::Result<Input> {
        self.rows_within(options, usize::MAX)
    }

    /// The same, and a row of more bytes is refused.
    ///
    /// # Errors
    /// When the file cannot be read, or a named column is not in it.
    pub fn rows_within(&self, options: &Options, row_bytes_max: usize) -> anyhow::Result<Input> {
        let bytes = Arc::new(AtomicU64::new(0));
        let rows = self.open_rows(&bytes, row_bytes_max)?;
        if let Rows::Csv { header, .. } = &rows {
            for (name, flag) in special(options) {
                self.must_have(header.keys().map(String::as_str), name, flag)?;
            }
        }
        let bytes_total = self.file.metadata()?.len();
        Ok(Input { rows, label: options.label.clone(), row_bytes_max, bytes, bytes_total })
    }

    fn must_have<'a>(
        &self,
        mut names: impl Iterator<Item = &'a str> + Clone,
        name: &str,
        flag: &str,
    ) -> anyhow::Result<()> {
        let all: Vec<&str> = names.clone().take(40).collect();
        if !names.any(|known| known == name) {
            bail!("{:?} has no column {name:?} ({flag}); its columns are {}", self.name, all.join(", "));
        }
        Ok(())
    }

    /// What to take the file for without a configuration: a column is a double when its values are numbers, but for a slip in a hundred, else a string.
    ///
    /// # Errors
    /// When the file cannot be read, or a named column is not in it.
    pub fn infer(&self, options: &Options, limits: &EventSpec) -> anyhow::Result<Inferred> {
        let bytes = Arc::new(AtomicU64::new(0));
        let mut span = Span::default();
        let kinds = match self.open_rows(&bytes, usize::MAX)? {
            Rows::Csv { mut reader, header, mut cells } => {
                let time = options.time.as_ref().and_then(|name| header.get(name).copied());
                let mut order: Vec<(&String, usize)> = header.iter().map(|(name, at)| (name, *at)).collect();
                order.sort_by_key(|(_, at)| *at);
                let mut values = vec![Values::default(); order.len()];
                let what = || format!("cannot read {:?}", self.name);
                while let Some((number, read)) = read_record(&mut reader, &mut cells).with_context(what)? {
                    read.map_err(|reason| in_line(number, &reason)).with_context(what)?;
                    for (cell, values) in cells.iter().zip(&mut values) {
                        values.see(cell);
                    }
                    span.extend(time.and_then(|at| cells.get(at)).and_then(file_time));
                }
                let kind = |at: usize| if values[at].are_numbers() { FieldType::Double } else { FieldType::String };
                order.into_iter().map(|(name, at)| (name.clone(), kind(at))).collect()
            }
            Rows::Json { reader, .. } => infer_json(reader, options.time.as_deref(), &mut span)
                .with_context(|| format!("cannot read {:?}", self.name))?,
        };
        let names = || kinds.iter().map(|(name, _)| name.as_str());
        for (name, flag) in special(options) {
            self.must_have(names(), name, flag)?;
        }
        let is_special = |name: &str| special(options).any(|(special, _)| special == name);
        let features: Vec<_> = kinds.iter().filter(|(name, _)| !is_special(name)).cloned().collect();
        if features.is_empty() {
            bail!("{:?} has no column that could be a feature", self.name);
        }
        let sql = inferred::query(&features, options, span.is_over_a_day());
        let decision = inferred::decision(&features, options, span.is_over_a_day());
        let mut fields: Vec<Field> =
            features.into_iter().map(|(name, kind)| Field { name, kind, required: false }).collect();
        for name in [&options.entity, &options.id].into_iter().flatten() {
            if !fields.iter().any(|field| field.name == *name) {
                fields.push(Field { name: name.clone(), kind: FieldType::String, required: false });
            }
        }
        let event = EventSpec {
            id: options.id.clone(),
            time: options.time.clone(),
            entity: options.entity.clone(),
            fields,
            ..limits.clone()
        };
        Ok(Inferred { event, sql, decision })
    }
}

/// How many values of a column are numbers, and those that are not.
#[derive(Debug, Clone, Default)]
struct Values {
    numbers: usize,
    others: BTreeSet<String>,
    /// One of these came twice, or there are too many.
    text: bool,
}

/// Of a longer text column, no more is looked at.
const OTHERS_MAX: usize = 1_000;

impl Values {
    fn see(&mut self, cell: &str) {
        if self.text || is_missing(cell) {
        } else if cell.trim().parse::<f64>().is_ok() {
            self.numbers += 1;
        } else {
            self.text = !self.others.insert(cell.to_owned()) || self.others.len() > OTHERS_MAX;
        }
    }

    /// A slip among a hundred numbers makes no text of them: its row is refused. What comes twice is no slip but a category.
    fn are_numbers(&self) -> bool {
        !self.text && 100 * self.others.len() <= self.numbers
    }
}

/// The first and the last time in a file, in milliseconds.
#[derive(Default)]
struct Span(Option<(i64, i64)>);

impl Span {
    fn extend(&mut self, time: Option<i64>) {
        let Some(time) = time else { return };
        let (first, last) = self.0.unwrap_or((time, time));
        self.0 = Some((first.min(time), last.max(time)));
    }

    fn is_over_a_day(&self) -> bool {
        self.0.is_some_and(|(first, last)| last.saturating_sub(first) > 86_400_000)
    }
}

/// The types that most values of the flat fields of NDJSON have, in the order in which they appear. Nested values are no features. Extends `span` by the field `time`.
fn infer_json(
    reader: Box<dyn BufRead + Send>,
    time: Option<&str>,
    span: &mut Span,
) -> anyhow::Result<Vec<(String, FieldType)>> {
    const KINDS: [FieldType; 3] = [FieldType::Double, FieldType::Boolean, FieldType::String];
    let mut fields: Vec<(String, [u64; KINDS.len()])> = Vec::new();
    for line in reader.lines() {
        // A broken line is refused when it is replayed.
        let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&line?) else { continue };
        for (name, value) in object {
            if time == Some(name.as_str()) {
                span.extend(value.as_i64().or_else(|| file_time(value.as_str()?)));
            }
            let kind = match value {
                serde_json::Value::Number(_) => 0,
                serde_json::Value::Bool(_) => 1,
                serde_json::Value::String(_) => 2,
                _ => continue,
            };
            let at = fields.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
                fields.push((name, [0; KINDS.len()]));
                fields.len() - 1
            });
            fields[at].1[kind] += 1;
        }
    }
    let most = |seen: [u64; KINDS.len()]| (0..KINDS.len()).max_by_key(|kind| seen[*kind]).unwrap_or(0);
    Ok(fields.into_iter().map(|(name, seen)| (name, KINDS[most(seen)])).collect())
}

impl Input {
    /// Bytes read of [`Input::bytes_total`].
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// Has `field` read from the column of another name. Its own column, if there is one, is not looked at.
    pub fn rename(&mut self, column: &str, field: &str) {
        match &mut self.rows {
            Rows::Csv { header, .. } => {
                if let Some(&at) = header.get(column) {
                    Arc::make_mut(header).insert(field.to_owned(), at);
                }
            }
            Rows::Json { renamed, .. } => renamed.push((column.to_owned(), field.to_owned())),
        }
    }

    /// # Errors
    /// When the file is no CSV (a row of another length), or its truth is neither 0 nor 1.
    pub fn next_row(&mut self) -> anyhow::Result<Option<Row>> {
        let Some(Line { number, row }) = self.next_line()? else { return Ok(None) };
        row.map(Some).map_err(|reason| in_line(number, &reason).into())
    }

    /// The next row, or why it is none: reading goes on after a line that cannot be used.
    ///
    /// # Errors
    /// When nothing more can be read: the disk fails, the gzip is broken, a quote is left open.
    pub fn next_line(&mut self) -> anyhow::Result<Option<Line>> {
        let label = self.label.as_deref();
        match &mut self.rows {
            Rows::Csv { reader, header, cells } => {
                let Some((number, read)) = read_record(reader, cells)? else { return Ok(None) };
                let row = read.and_then(|()| {
                    within(cells.as_slice().len(), self.row_bytes_max)?;
                    let cell = label.and_then(|label| header.get(label)).and_then(|&at| cells.get(at));
                    let truth = cell.map_or(Ok(None), truth)?;
                    Ok(Row { content: Content::Csv { cells: cells.clone(), header: header.clone() }, truth })
                });
                Ok(Some(Line { number, row }))
            }
            Rows::Json { reader, text, number, renamed } => {
                loop {
                    if !read_line(reader, text, self.row_bytes_max)? {
                        return Ok(None);
                    }
                    *number += 1;
                    if !text.trim_ascii().is_empty() {
                        break;
                    }
                }
                let row = within(text.len(), self.row_bytes_max).and_then(|()| {
                    let text = std::str::from_utf8(text).map_err(|_| NOT_UTF8.to_owned())?;
                    let line = text.trim_start_matches('\u{feff}').trim();
                    let truth = label.map_or(Ok(None), |label| json_truth(line, label))?;
                    Ok(Row { content: Content::Json(with_renamed(line, renamed)), truth })
                });
                Ok(Some(Line { number: *number, row }))
            }
        }
    }
}

const NOT_UTF8: &str = "not text in UTF-8";

fn in_line(number: u64, reason: &str) -> InputError {
    InputError(format!("line {number}: {reason}"))
}

fn within(bytes: usize, bytes_max: usize) -> Result<(), String> {
    if bytes > bytes_max {
        return Err(format!("longer than {bytes_max} bytes ([limits] event_bytes)"));
    }
    Ok(())
}

/// Reads one record, and says at which line it begins. What cannot be read is a failure; what can be read and is no record of this file is the file's.
fn read_record(
    reader: &mut CsvReader,
    cells: &mut csv::StringRecord,
) -> anyhow::Result<Option<(u64, Result<(), String>)>> {
    let (start, read) = match reader.read_record(cells) {
        Ok(false) => return Ok(None),
        Ok(true) => (cells.position().map(csv::Position::byte), Ok(())),
        Err(error) if error.is_io_error() => return Err(error.into()),
        Err(error) => {
            let reason = match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("{len} cells where the header has {expected_len}")
                }
                csv::ErrorKind::Utf8 { .. } => NOT_UTF8.to_owned(),
                _ => error.to_string(),
            };
            (error.position().map(csv::Position::byte), Err(reason))
        }
    };
    let end = reader.position().byte();
    let number = reader.get_mut().of_record(start.unwrap_or(end), end);
    Ok(Some((number, read)))
}

/// Reads one line without its end; of one that is longer than `bytes_max`, the rest is passed over. False at the end of the text.
fn read_line(mut reader: &mut (dyn BufRead + Send), text: &mut Vec<u8>, bytes_max: usize) -> io::Result<bool> {
    text.clear();
    // One more than is allowed, and the line's end: CR LF.
    let taken = (&mut reader).take((bytes_max as u64).saturating_add(3)).read_until(b'\n', text)?;
    if taken > 0 && text.last() != Some(&b'\n') {
        while let rest = reader.fill_buf()?
            && !rest.is_empty()
        {
            let end = memchr::memchr(b'\n', rest);
            let length = end.map_or(rest.len(), |end| end + 1);
            reader.consume(length);
            if end.is_some() {
                break;
            }
        }
    }
    let end = if text.ends_with(b"\r\n") { 2 } else { usize::from(text.ends_with(b"\n")) };
    text.truncate(text.len() - end);
    Ok(taken > 0)
}

/// The object with some of its members under other names, for the decoder knows only those of fields. What is no object the decoder refuses.
fn with_renamed(line: &str, renamed: &[(String, String)]) -> String {
    if renamed.is_empty() {
        return line.to_owned();
    }
    let Ok(mut object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line) else {
        return line.to_owned();
    };
    for (column, field) in renamed {
        let value = object.get(column).cloned().unwrap_or_default();
        object.insert(field.clone(), value);
    }
    serde_json::Value::from(object).to_string()
}

fn truth(cell: &str) -> Result<Option<bool>, String> {
    Ok(Some(match cell.trim() {
        "" => return Ok(None),
        "0" | "0.0" | "false" | "False" | "FALSE" | "normal" => false,
        "1" | "1.0" | "true" | "True" | "TRUE" | "anomaly" => true,
        other => return Err(format!("the truth {other:?} is neither 0 nor 1")),
    }))
}

fn json_truth(line: &str, label: &str) -> Result<Option<bool>, String> {
    let Ok(object) = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(line) else { return Ok(None) };
    match object.get(label) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => truth(text),
        Some(value) => truth(&value.to_string()),
    }
}

/// The columns that options name, each with its flag: none of them is a feature.
fn special(options: &Options) -> impl Iterator<Item = (&str, &'static str)> {
    let named =
        [(&options.label, "--label"), (&options.time, "--time"), (&options.entity, "--entity"), (&options.id, "--id")];
    named.into_iter().filter_map(|(name, flag)| name.as_deref().map(|name| (name, flag)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn input(text: &[u8], row_bytes_max: usize) -> Input {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let options = Options { label: Some("label".into()), ..Options::default() };
        Source::of(file, "the file").rows_within(&options, row_bytes_max).unwrap()
    }

    /// Every line with its truth, or the reason why it has no row; a failure of the whole ends it.
    fn lines(mut input: Input) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        loop {
            match input.next_line() {
                Ok(Some(Line { number, row })) => {
                    all.push((number, row.map_or_else(|r| r, |row| format!("{:?}", row.truth))))
                }
                Ok(None) => return all,
                Err(error) => {
                    all.push((0, format!("{error:#}")));
                    return all;
                }
            }
        }
    }

    #[track_caller]
    fn check(text: &[u8], expected: &[(u64, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(line, what)| (*line, (*what).to_owned())).collect();
        assert_eq!(lines(input(text, 100)), expected);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        assert_eq!(lines(input(&gzip.finish().unwrap(), 100)), expected, "gzip");
    }

    #[test]
    fn a_line_that_cannot_be_used_is_named_and_the_next_is_read() {
        let text = b"x,label\n1,0\n2\n3,odd\n\xff,1\n\n4,\n\"5\n\",1\n6,anomaly\n";
        let expected = [
            (2, "Some(false)"),
            (3, "1 cells where the header has 2"),
            (4, "the truth \"odd\" is neither 0 nor 1"),
            (5, "not text in UTF-8"),
            (7, "None"),
            (8, "Some(true)"),
            (10, "Some(true)"),
        ];
        check(text, &expected);
        // The same behind a byte order mark, and with CR LF.
        check(&[b"\xef\xbb\xbf", &text[..]].concat(), &expected);
        let crlf: Vec<u8> = text.iter().flat_map(|b| if *b == b'\n' { b"\r\n".to_vec() } else { vec![*b] }).collect();
        check(&crlf, &expected);
        let cr: Vec<u8> = text.iter().map(|b| if *b == b'\n' { b'\r' } else { *b }).collect();
        check(&cr, &expected);
        check(
            b"\n{\"label\":1}\r\n{\"label\":\"normal\"}\n{\n\n{\"label\":[]}\n\xff\n{}",
            &[
                (2, "Some(true)"),
                (3, "Some(false)"),
                (4, "None"),
                (6, "the truth \"[]\" is neither 0 nor 1"),
                (7, "not text in UTF-8"),
                (8, "None"),
            ],
        );
    }

    #[test]
    fn a_long_line_is_refused_and_an_open_quote_ends_the_file() {
        let long = "longer than 100 bytes ([limits] event_bytes)";
        let rows = format!("x,label\n{},1\n2,1\n", "y".repeat(200));
        check(rows.as_bytes(), &[(2, long), (3, "Some(true)")]);
        for length in [97, 98, 99, 100, 101, 102, 103, 300_000] {
            let object = format!("{{\"label\":1,\"x\":\"{}\"}}", "y".repeat(length - 18));
            assert_eq!(object.len(), length);
            let text = format!("{object}\r\n{{\"label\":0}}\n");
            check(text.as_bytes(), &[(1, if length > 100 { long } else { "Some(true)" }), (2, "Some(false)")]);
        }
        let open = format!("x,label\n1,1\n\"2,{}", "0,0\n".repeat(100_000));
        let read = lines(input(open.as_bytes(), 100));
        assert_eq!(read[0], (2, "Some(true)".into()));
        assert!(read[1].1.contains("is a quote left open?") && read.len() == 2, "{read:?}");
        // Without a bound it is one long row of another length.
        assert_eq!(lines(input(open.as_bytes(), usize::MAX))[1].0, 3);
    }
}
