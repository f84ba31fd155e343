//! What is wrong with a query, and where.

/// A query that is refused. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct QueryError {
    pub line: u64,
    pub column: u64,
    /// What was found and what is possible.
    pub message: String,
}
