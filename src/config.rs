//! The configuration: one strict YAML file, read whole, all its mistakes told at once.

mod environment;
mod file;
mod interpolate;
mod place;
mod problem;
mod reader;
mod section;
mod tree;
mod value;
pub mod watch;

pub use environment::Environment;
pub use problem::{Problem, Problems};

/// The JSON Schema of the file, for editors: draft 2020-12.
pub fn schema() -> serde_json::Value {
    file::schema()
}
