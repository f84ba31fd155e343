//! Which line of a text a CSV record begins at, counted while the text is read: the CSV reader's own count is one behind after CRLF and empty lines.

use memchr::memchr2_iter;
use std::collections::VecDeque;
use std::io::{self, Read};

/// How far the CSV reader reads ahead.
const READ_AHEAD: u64 = 1 << 16;

/// Counts the lines of what is read through it, and bounds a record: one whose quote is left open would be the rest of the file.
pub(super) struct Lines<R> {
    inner: R,
    /// Bytes read.
    read: u64,
    /// The end of the last record.
    passed: u64,
    record_bytes_max: u64,
    /// The ends of lines not counted yet: where, and whether it is a line feed.
    ends: VecDeque<(u64, bool)>,
    line: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(inner: R, record_bytes_max: usize) -> Self {
        Self { inner, read: 0, passed: 0, record_bytes_max: record_bytes_max as u64, ends: VecDeque::new(), line: 1 }
    }

    /// The line, from 1, of the record that was read last: the bytes of its text begin at `start`, or after the line ends there. `end` is where
    /// reading goes on.
    pub(super) fn of_record(&mut self, start: u64, end: u64) -> u64 {
        self.passed = end;
        let mut start = start;
        while let Some(&(at, is_feed)) = self.ends.front()
            && at <= start
        {
            self.ends.pop_front();
            // Of CR LF the line feed counts.
            let joined = !is_feed && self.ends.front() == Some(&(at + 1, true));
            self.line += u64::from(!joined);
            start += u64::from(at == start);
        }
        self.line
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read - self.passed > self.record_bytes_max.saturating_add(READ_AHEAD) {
            let message = format!(
                "a row after line {} has more than {} bytes ([limits] event_bytes): is a quote left open?",
                self.line, self.record_bytes_max
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let n = self.inner.read(buffer)?;
        let read = self.read;
        self.ends.extend(memchr2_iter(b'\n', b'\r', &buffer[..n]).map(|at| (read + at as u64, buffer[at] == b'\n')));
        self.read += n as u64;
        Ok(n)
    }
}
