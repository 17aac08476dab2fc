//! The page for operators: three files, part of the program.

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest;

/// Nothing but our own files, no script or style inside the page, and nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// One file of the page.
struct Asset {
    path: &'static str,
    media: &'static str,
    content: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset { path: "/", media: "text/html; charset=utf-8", content: include_bytes!("page/index.html") },
    Asset {
        path: "/assets/app.css",
        media: "text/css; charset=utf-8",
        content: include_bytes!("page/app.css"),
    },
    Asset {
        path: "/assets/app.js",
        media: "text/javascript; charset=utf-8",
        content: include_bytes!("page/app.js"),
    },
];

pub(super) fn router() -> Router {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let tag = tag(asset.content);
        router.route(
            asset.path,
            get(move |headers: HeaderMap| std::future::ready(serve(asset, &tag, &headers))),
        )
    })
}

fn serve(asset: &Asset, tag: &str, headers: &HeaderMap) -> Response {
    let head = [
        (ETAG, tag),
        // Kept, but asked for again each time: after an update the next look is of the new version.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
    ];
    let is_known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|known| known.to_str().is_ok_and(|known| known.split(',').any(|known| known.trim() == tag)));
    if is_known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (head, [(CONTENT_TYPE, asset.media)], Bytes::from_static(asset.content)).into_response()
}

fn tag(content: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, content);
    let start: String = hash.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{start}\"")
}
