//! What a link to a hosted page asks for: where to go afterwards, and how to authenticate.
//!
//! A proxy that cannot encode writes the URL that somebody asked for into the link as it is:
//! `/login?return_to=https://app.example.org/x?a=1&b=2`. So a value that was plainly not encoded (it begins
//! with a scheme and `://`, or it is a path with a `?`) reaches to the end of the query. What the proxy itself
//! asks for stands before it, and the first of two wins.

use super::demand::Demand;
use super::return_to::{Refused, ReturnTargets, ReturnTo};
use reseal_core::Acr;
use std::time::Duration;
use url::form_urlencoded;

/// The parameters of a hosted page; unknown ones are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Where to go, unchecked.
    return_to: Option<String>,
    /// `prompt=login`: sign in even if signed in.
    pub(super) again: bool,
    acr: Option<Acr>,
    max_age: Option<u32>,
}

impl Asked {
    /// From the query of a link.
    pub(super) fn of_query(query: Option<&str>) -> Self {
        let mut asked = Self::default();
        let mut rest = query.unwrap_or_default();
        while !rest.is_empty() {
            let (pair, after) = match rest.strip_prefix("return_to=") {
                Some(value) if is_unencoded(value) => {
                    asked.return_to.get_or_insert_with(|| value.to_owned());
                    return asked;
                }
                _ => rest.split_once('&').unwrap_or((rest, "")),
            };
            if let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() {
                asked.take(&name, &value);
            }
            rest = after;
        }
        asked
    }

    /// From the hidden fields of a form.
    pub(super) fn of_form(return_to: Option<String>, acr: Option<&str>, max_age: Option<&str>) -> Self {
        let mut asked = Self { return_to: return_to.filter(|v| !v.is_empty()), ..Self::default() };
        asked.take("acr", acr.unwrap_or_default());
        asked.take("max_age", max_age.unwrap_or_default());
        asked
    }

    fn take(&mut self, name: &str, value: &str) {
        match name {
            "return_to" if self.return_to.is_none() => self.return_to = Some(value.to_owned()),
            "acr" if self.acr.is_none() => self.acr = value.parse().ok(),
            "max_age" if self.max_age.is_none() => self.max_age = value.parse().ok(),
            "prompt" => self.again |= value == "login",
            _ => {}
        }
    }

    /// Where to go: `None` when the link does not say.
    pub(super) fn target(&self, targets: &ReturnTargets) -> Result<Option<ReturnTo>, Refused> {
        self.return_to.as_deref().map(|text| targets.find(text)).transpose()
    }

    /// How the user must be authenticated.
    pub(super) fn demand(&self) -> Demand {
        let max_age = self.max_age.map(|secs| Duration::from_secs(secs.into()));
        Demand { acr: self.acr, max_age }
    }

    /// For a hidden field.
    pub(super) fn acr(&self) -> Option<&'static str> {
        self.acr.map(Acr::as_str)
    }

    /// For a hidden field.
    pub(super) fn max_age(&self) -> Option<u32> {
        self.max_age
    }
}

fn is_unencoded(value: &str) -> bool {
    let first = value.split('&').next().unwrap_or_default();
    let scheme = first.get(..8).unwrap_or(first).to_ascii_lowercase();
    scheme.starts_with("http://") || scheme == "https://" || (first.starts_with('/') && first.contains('?'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::sign_in;

    fn return_to(query: &str) -> Option<String> {
        Asked::of_query(Some(query)).return_to
    }

    #[test]
    fn an_encoded_link_is_decoded_and_others_follow_it() {
        let asked = Asked::of_query(Some("return_to=%2Fx%3Fa%3D1%26b%3D2&acr=aal2&max_age=300&prompt=login"));
        assert_eq!(asked.return_to.as_deref(), Some("/x?a=1&b=2"));
        assert_eq!((asked.acr(), asked.max_age(), asked.again), (Some("aal2"), Some(300), true));
        assert_eq!(
            return_to("return_to=https%3A%2F%2Fapp.test%2F%3Fa%26b&x=1").as_deref(),
            Some("https://app.test/?a&b")
        );
        assert_eq!(return_to("return_to=/x%3Fa%3D1&acr=aal2").as_deref(), Some("/x?a=1"));
        assert_eq!(return_to("return_to=/a+b").as_deref(), Some("/a b"));
    }

    #[test]
    fn a_link_that_was_not_encoded_reaches_to_the_end() {
        assert_eq!(
            return_to("return_to=https://app.test/x?a=1&b=%26").as_deref(),
            Some("https://app.test/x?a=1&b=%26")
        );
        assert_eq!(return_to("return_to=HTTP://app.test/&b").as_deref(), Some("HTTP://app.test/&b"));
        assert_eq!(return_to("acr=aal2&return_to=/x?a=1&b=2").as_deref(), Some("/x?a=1&b=2"));
        let smuggled = Asked::of_query(Some("acr=aal2&return_to=/x?y&acr=aal1&prompt=login"));
        assert_eq!((smuggled.acr(), smuggled.again), (Some("aal2"), false));
    }

    #[test]
    fn what_is_not_understood_is_not_asked_for() {
        for query in
            ["", "&&", "=", "x", "acr=aal3&max_age=-1&prompt=none", "acr=&max_age=99999999999", "%ff=%ff"]
        {
            assert_eq!(Asked::of_query(Some(query)), Asked::default(), "{query}");
        }
        assert_eq!(Asked::of_query(None), Asked::default());
        assert_eq!(return_to("return_to=/a&return_to=/b").as_deref(), Some("/a"));
    }

    #[test]
    fn a_link_says_what_it_was_made_of() {
        let targets = ReturnTargets::default();
        for path in ["/", "/x?a=1&b=%26&c=a+b%20c", "/ä?#x"] {
            let target = targets.find(path).unwrap();
            let demand = Demand { acr: Some(Acr::Aal2), max_age: Some(Duration::from_secs(60)) };
            let link = sign_in::link(Some(&target), demand);
            let asked = Asked::of_query(link.split_once('?').map(|(_, query)| query));
            assert_eq!(asked.target(&targets), Ok(Some(target)));
            assert_eq!(asked.demand(), demand);
        }
        assert_eq!(sign_in::link(None, Demand::default()), "/login");
    }
}
