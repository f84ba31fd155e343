//! The HTTP API: predictions, labels, models, health. Handlers translate; what they ask for is answered by `service` and `store`.

mod body;
mod error;
mod health;
mod label_lines;
mod labels;
mod models;
mod predict;
mod predict_lines;
mod predictions;
mod refits;
mod router;
mod schema;
mod server;
mod state;
mod tasks;
mod training_data;

pub(crate) use label_lines::CsvLines;
pub use router::openapi;
pub use server::Server;
