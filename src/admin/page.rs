//! The page for operators: a few files, part of the program.

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

impl Asset {
    const fn script(path: &'static str, content: &'static [u8]) -> Asset {
        Asset { path, media: "text/javascript; charset=utf-8", content }
    }
}

/// All of them, in the order of their paths.
const ASSETS: [Asset; 16] = [
    Asset { path: "/", media: "text/html; charset=utf-8", content: include_bytes!("page/index.html") },
    Asset::script("/assets/api.js", include_bytes!("page/api.js")),
    Asset {
        path: "/assets/app.css",
        media: "text/css; charset=utf-8",
        content: include_bytes!("page/app.css"),
    },
    Asset::script("/assets/app.js", include_bytes!("page/app.js")),
    Asset::script("/assets/blocks.js", include_bytes!("page/blocks.js")),
    Asset::script("/assets/chart.js", include_bytes!("page/chart.js")),
    Asset::script("/assets/codes.js", include_bytes!("page/codes.js")),
    Asset::script("/assets/dom.js", include_bytes!("page/dom.js")),
    Asset::script("/assets/events.js", include_bytes!("page/events.js")),
    Asset::script("/assets/list.js", include_bytes!("page/list.js")),
    Asset::script("/assets/lookup.js", include_bytes!("page/lookup.js")),
    Asset::script("/assets/overview.js", include_bytes!("page/overview.js")),
    Asset::script("/assets/rules.js", include_bytes!("page/rules.js")),
    Asset::script("/assets/stream.js", include_bytes!("page/stream.js")),
    Asset::script("/assets/theme.js", include_bytes!("page/theme.js")),
    Asset::script("/assets/words.js", include_bytes!("page/words.js")),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that this one names: `"/assets/app.css"`, `'./dom.js'`.
    fn named(asset: &Asset) -> Vec<String> {
        let text = std::str::from_utf8(asset.content).unwrap();
        let words = text.split(['"', '\'']);
        words
            .filter_map(|word| match word.strip_prefix("./") {
                Some(module) => Some(format!("/assets/{module}")),
                None => word.starts_with("/assets/").then(|| word.to_owned()),
            })
            .collect()
    }

    #[test]
    fn every_file_that_another_names_is_served_and_no_other() {
        let mut wanted: Vec<String> = ASSETS.iter().flat_map(named).collect();
        wanted.push("/".to_owned());
        wanted.sort();
        wanted.dedup();
        let served: Vec<&str> = ASSETS.iter().map(|asset| asset.path).collect();
        assert_eq!(served, wanted);
    }
}
