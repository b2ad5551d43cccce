//! The development page: its files are in the binary, and served with a policy that lets nothing else in.

use crate::authority::App;
use crate::http::asset::{self, Asset, CSS, HTML, SCRIPT, SVG};
use axum::Router;

macro_rules! asset {
    ($path:literal, $kind:expr, $file:literal) => {
        Asset($path, $kind, include_str!(concat!("page/", $file)))
    };
}

/// All files of the page.
static ASSETS: &[Asset] = &[
    asset!("/", HTML, "index.html"),
    asset!("/look.css", CSS, "look.css"),
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
    asset::routes(ASSETS, POLICY)
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
