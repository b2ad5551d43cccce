//! The hosted pages' routes and files.

use super::{code, login, logout};
use crate::authority::App;
use crate::http::asset::{self, Asset, CSS, SCRIPT, SVG};
use axum::Router;
use axum::routing::{get, post};

macro_rules! asset {
    ($name:literal, $kind:expr, $file:literal) => {
        Asset(concat!("/gateway/assets/", $name), $kind, include_str!($file))
    };
}

/// The pages' files; dial, words and look are those of the development page.
static ASSETS: &[Asset] = &[
    asset!("look.css", CSS, "../dev/page/look.css"),
    asset!("gateway.css", CSS, "page/gateway.css"),
    asset!("gateway.js", SCRIPT, "page/gateway.js"),
    asset!("dial.js", SCRIPT, "../dev/page/dial.js"),
    asset!("words.js", SCRIPT, "../dev/page/words.js"),
    asset!("seal.svg", SVG, "../dev/page/seal.svg"),
];

/// Files that run or load nothing by themselves.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The routes of the pages and their files.
pub fn routes() -> Router<App> {
    asset::routes(ASSETS, POLICY)
        .route("/login", get(login::show).post(login::submit))
        .route("/login/factor", post(code::submit))
        .route("/login/resend", post(code::resend))
        .route("/logout", get(logout::show).post(logout::submit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_refer_only_to_files_that_are_served_and_have_nothing_inline() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/gateway");
        let mut references = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let html = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for path in html.split(['"', ' ']).filter(|part| part.starts_with("/gateway/assets/")) {
                assert!(ASSETS.iter().any(|a| a.0 == path), "{path}");
                references += 1;
            }
            let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
            assert!(!html.split_whitespace().any(is_handler), "a script in an attribute");
            assert!(!html.contains("<style") && !html.contains("style="), "a style that the policy refuses");
            assert!(!html.contains("|safe") && !html.contains("| safe"), "everything is escaped");
            assert!(!html.contains("<script>"));
        }
        assert!(references >= 4, "style, script and seal");
    }
}
