//! The description of the API, for programs (OpenAPI 3.1).

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// What every endpoint takes and gives; a test holds them to it.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /api/openapi.json`
pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}
