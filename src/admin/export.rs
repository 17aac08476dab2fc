//! Everything that a list would show, as one file: streamed, so that it takes no room however much it is.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::api::Api;
use super::auth::Caller;
use super::input::Parameters;
use super::item::{BlockItem, EventItem};
use super::reply::Fault;
use super::{blocks as block_lists, logs as event_lists};

/// So much is gathered before it is sent, bytes.
const CHUNK: usize = 64 * 1024;
/// So many chunks wait for a slow client.
const CHUNKS_WAITING: usize = 4;
/// So many events are read at once.
const ROWS: usize = 2000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

/// `GET /api/v1/blocked-identifiers/export`
pub(super) async fn blocks(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let known = |name: &str| block_lists::Wanted::PARAMETERS.contains(&name) || name == "format";
    let parameters = Parameters::read(&uri, known)?;
    let wanted = block_lists::Wanted::of(&parameters)?;
    let file = File { name: "tollgate-blocks", columns: &BlockItem::COLUMNS, format: format(&parameters)? };
    let permit = turn(&api)?;
    api.audit(&caller, "exported blocks");
    Ok(file.stream(permit, move |sink| {
        let mut found = api.gateway.journal().book().matching(&wanted.filter(caller.sight)?, api.now());
        found.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
        for record in found {
            sink.row(&BlockItem::new(&record, caller.sight))?;
        }
        Ok(())
    }))
}

/// `GET /api/v1/rate-limit-logs/export`
pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Fault> {
    let known = |name: &str| event_lists::Wanted::PARAMETERS.contains(&name) || name == "format";
    let parameters = Parameters::read(&uri, known)?;
    let wanted = event_lists::Wanted::of(&parameters)?;
    let file = File { name: "tollgate-events", columns: &EventItem::COLUMNS, format: format(&parameters)? };
    let permit = turn(&api)?;
    api.audit(&caller, "exported events");
    Ok(file.stream(permit, move |sink| {
        let mut before = None;
        loop {
            let rows = wanted.rows(&api, before, ROWS)?;
            for row in &rows {
                sink.row(&EventItem::new(&row.event, row.masked.as_deref(), Some(row.cursor), caller.sight))?;
            }
            match rows.last() {
                Some(last) if rows.len() == ROWS => before = Some(last.cursor),
                Some(_) | None => return Ok(()),
            }
        }
    }))
}

fn format(parameters: &Parameters) -> Result<Format, Fault> {
    let format = parameters.parsed("format", "csv or json", |word| match word {
        "csv" => Some(Format::Csv),
        "json" => Some(Format::Json),
        _ => None,
    })?;
    Ok(format.unwrap_or(Format::Csv))
}

fn turn(api: &Api) -> Result<OwnedSemaphorePermit, Fault> {
    let permit = Arc::clone(&api.exports).try_acquire_owned();
    permit.map_err(|_| Fault::TooMany { retry_after_s: 5, detail: "Other exports are under way." })
}

/// What is sent.
struct File {
    name: &'static str,
    columns: &'static [&'static str],
    format: Format,
}

/// Why no more is written.
enum Stopped {
    ClientGone,
    Failed,
}

impl From<Fault> for Stopped {
    fn from(_: Fault) -> Stopped {
        Stopped::Failed
    }
}

impl File {
    fn stream(
        self,
        permit: OwnedSemaphorePermit,
        write: impl FnOnce(&mut Sink) -> Result<(), Stopped> + Send + 'static,
    ) -> Response {
        let (media, extension) = match self.format {
            Format::Csv => ("text/csv; charset=utf-8", "csv"),
            Format::Json => ("application/json", "json"),
        };
        let disposition = format!("attachment; filename=\"{}.{extension}\"", self.name);
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut sink = Sink { sender, file: self, text: String::with_capacity(CHUNK * 2), rows: 0 };
            sink.begin();
            let written = write(&mut sink).and_then(|()| sink.end());
            match written {
                Ok(()) | Err(Stopped::ClientGone) => {}
                // Cut off, so that nobody takes a part for the whole.
                Err(Stopped::Failed) => {
                    let _ = sink.sender.blocking_send(Err(std::io::ErrorKind::Other.into()));
                }
            }
        });
        let chunks = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        let head = [(CONTENT_TYPE, media.to_owned()), (CONTENT_DISPOSITION, disposition)];
        (head, Body::from_stream(chunks)).into_response()
    }
}

/// Where the rows go.
struct Sink {
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    file: File,
    text: String,
    rows: u64,
}

impl Sink {
    fn begin(&mut self) {
        match self.file.format {
            Format::Csv => push_line(&mut self.text, self.file.columns.iter().copied()),
            Format::Json => self.text.push('['),
        }
    }

    fn row(&mut self, item: &impl Serialize) -> Result<(), Stopped> {
        let value = serde_json::to_value(item).map_err(|_| Stopped::Failed)?;
        match self.file.format {
            Format::Csv => {
                let cell = |column: &&str| match value.get(*column) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                };
                let cells: Vec<String> = self.file.columns.iter().map(cell).collect();
                push_line(&mut self.text, cells.iter().map(String::as_str));
            }
            Format::Json => {
                self.text.push_str(if self.rows == 0 { "\n" } else { ",\n" });
                self.text.push_str(&value.to_string());
            }
        }
        self.rows += 1;
        if self.text.len() >= CHUNK { self.send() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), Stopped> {
        match self.file.format {
            Format::Csv => {}
            Format::Json => self.text.push_str("\n]\n"),
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), Stopped> {
        let chunk = Bytes::copy_from_slice(self.text.as_bytes());
        self.text.clear();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| Stopped::ClientGone)
    }
}

/// One line of RFC 4180, every cell in quotes. What a spreadsheet would take for a formula gets an apostrophe in front.
fn push_line<'c>(text: &mut String, cells: impl Iterator<Item = &'c str>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push('"');
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
            text.push('\'');
        }
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_or_ends_its_quotes() {
        let line = |cells: &[&str]| {
            let mut text = String::new();
            push_line(&mut text, cells.iter().copied());
            text
        };
        assert_eq!(line(&["a", "", "b,c"]), "\"a\",\"\",\"b,c\"\r\n");
        assert_eq!(line(&["=cmd|' /C calc'!A0"]), "\"'=cmd|' /C calc'!A0\"\r\n");
        assert_eq!(line(&["say \"hi\"\r\n"]), "\"say \"\"hi\"\"\r\n\"\r\n");
        for cell in ["+1555", "-1", "@x", "\tx", "\rx"] {
            assert!(line(&[cell]).starts_with("\"'"), "{cell:?}");
        }
    }
}
