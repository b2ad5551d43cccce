//! The development page: its files are in the binary, and served with a policy that lets nothing else in.

use crate::authority::App;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and text of a file of the page.
struct Asset(&'static str, &'static str, &'static str);

macro_rules! asset {
    ($path:literal, $kind:expr, $file:literal) => {
        Asset($path, $kind, include_str!(concat!("page/", $file)))
    };
}

/// All files of the page.
static ASSETS: &[Asset] = &[
    asset!("/", HTML, "index.html"),
    asset!("/page.css", CSS, "page.css"),
    asset!("/seal.svg", SVG, "seal.svg"),
    asset!("/account.js", SCRIPT, "account.js"),
    asset!("/api.js", SCRIPT, "api.js"),
    asset!("/dial.js", SCRIPT, "dial.js"),
    asset!("/page.js", SCRIPT, "page.js"),
    asset!("/panel.js", SCRIPT, "panel.js"),
    asset!("/token.js", SCRIPT, "token.js"),
    asset!("/words.js", SCRIPT, "words.js"),
];

/// Nothing inline, nothing foreign, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The routes of the page's files.
pub(super) fn routes() -> Router<App> {
    ASSETS.iter().fold(Router::new(), |routes, asset| {
        let etag = etag(asset);
        routes.route(asset.0, get(async move |headers: HeaderMap| serve(asset, &etag, &headers)))
    })
}

fn serve(asset: &'static Asset, etag: &HeaderValue, headers: &HeaderMap) -> Response {
    let Asset(_, kind, text) = *asset;
    let known = headers.get(header::IF_NONE_MATCH) == Some(etag);
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { text.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Kept, but asked for each time: another version of the binary may answer next.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, etag.clone());
    response
}

fn etag(asset: &Asset) -> HeaderValue {
    let hash = URL_SAFE_NO_PAD.encode(&digest(&SHA256, asset.2.as_bytes()).as_ref()[..12]);
    HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"-\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_and_refers_only_to_others_of_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dev/page");
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
        for file in files {
            let path = if file == "index.html" { "/".to_owned() } else { format!("/{file}") };
            assert!(ASSETS.iter().any(|a| a.0 == path), "{file} is not served");
        }
        let html = ASSETS.iter().find(|a| a.0 == "/").unwrap().2;
        let references = html.split(['"', ' ']).filter(|part| part.starts_with('/') && part.contains('.'));
        let files = references.filter(|path| [".css", ".js", ".svg"].iter().any(|kind| path.ends_with(kind)));
        let mut count = 0;
        for path in files {
            assert!(ASSETS.iter().any(|a| a.0 == path), "{path}");
            count += 1;
        }
        assert!(count >= 3, "style, script and icon");
        assert!(!html.contains("src=\"http") && !html.contains("//cdn"));
        assert!(!html.contains("<style") && !html.contains("style=\"") && !html.contains("onclick"));
    }
}
