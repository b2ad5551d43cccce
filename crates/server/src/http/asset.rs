//! Files of a page that are in the binary.

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};

pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const CSS: &str = "text/css; charset=utf-8";
pub(crate) const SCRIPT: &str = "text/javascript; charset=utf-8";
pub(crate) const SVG: &str = "image/svg+xml";

/// Path, type and text of a file of a page.
pub(crate) struct Asset(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

/// The routes of the files, each answered with the content security policy of its page.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
    assets: &'static [Asset],
    policy: &'static str,
) -> Router<S> {
    assets.iter().fold(Router::new(), |routes, asset| {
        let etag = etag(asset);
        routes.route(asset.0, get(async move |headers: HeaderMap| serve(asset, policy, &etag, &headers)))
    })
}

fn serve(asset: &'static Asset, policy: &'static str, etag: &HeaderValue, headers: &HeaderMap) -> Response {
    let Asset(_, kind, text) = *asset;
    let known = headers.get(header::IF_NONE_MATCH) == Some(etag);
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { text.into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // Kept, but asked for each time: another version of the binary may answer next.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::ETAG, etag.clone());
    response
}

fn etag(asset: &Asset) -> HeaderValue {
    let hash = URL_SAFE_NO_PAD.encode(&digest(&SHA256, asset.2.as_bytes()).as_ref()[..12]);
    HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"-\""))
}
