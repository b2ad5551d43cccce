use super::*;
use proptest::prelude::*;

fn targets() -> ReturnTargets {
    ReturnTargets::parse(&[
        "https://app.example.org",
        "https://big.example.org/app/",
        "https://one.example.org/x",
    ])
    .unwrap()
}

fn find(text: &str) -> Option<String> {
    targets().find(text).ok().map(|found| found.as_str().to_owned())
}

#[test]
fn what_is_listed_and_what_is_on_this_host_is_found() {
    for (text, location) in [
        ("/", "/"),
        ("/x?a=1&b=/c#d", "/x?a=1&b=/c#d"),
        ("/a b/ä", "/a%20b/%C3%A4"),
        ("/a/../b", "/b"),
        ("/?next=//evil.example", "/?next=//evil.example"),
        ("https://app.example.org", "https://app.example.org/"),
        ("HTTPS://APP.example.org:443/x?y", "https://app.example.org/x?y"),
        ("https://app.example.org//x", "https://app.example.org//x"),
        ("https://app.example.org/files/a%2Fb", "https://app.example.org/files/a%2Fb"),
        ("https://big.example.org/app/x", "https://big.example.org/app/x"),
        ("https://big.example.org/app/", "https://big.example.org/app/"),
        ("https://one.example.org/x", "https://one.example.org/x"),
        ("https://one.example.org/x/y?z", "https://one.example.org/x/y?z"),
    ] {
        assert_eq!(find(text).as_deref(), Some(location), "{text}");
    }
}

#[test]
fn everything_else_is_refused() {
    let long = format!("/{}", "x".repeat(2048));
    for text in [
        "",
        "x",
        "evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/%2f/evil.example",
        "/%2F%2Fevil.example",
        "/%5Cevil.example",
        "/.//evil.example",
        "/x/..//evil.example",
        "/./%2f/evil.example",
        "/%2e//evil.example",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "mailto:a@app.example.org",
        "blob:https://app.example.org/1",
        "http://app.example.org/",
        "https:app.example.org",
        "https:/app.example.org",
        "https:///app.example.org",
        "https://app.example.org.evil.example/",
        "https://evil.example/https://app.example.org/",
        "https://evil.example#https://app.example.org/",
        "https://evil.example?https://app.example.org/",
        "https://app.example.org@evil.example/",
        "https://evil.example@app.example.org/",
        "https://@app.example.org/",
        "https://a:b@app.example.org/",
        "https://app.example.org:8443/",
        "https://app.example.org\\@evil.example/",
        "https://app.example.org%2eevil.example/",
        "https://xapp.example.org/",
        "https://app.example.org./",
        "https://big.example.org/",
        "https://big.example.org/app",
        "https://big.example.org/application",
        "https://big.example.org/app/../admin",
        "https://big.example.org/app/%2e%2e/admin",
        "https://big.example.org/app/..%2fadmin",
        "https://big.example.org/app/..%5cadmin",
        "https://one.example.org/xy",
        "http://localhost:3000/",
        "ftp://app.example.org/",
        " https://evil.example/",
        "\u{a0}/x",
        "\u{2215}/evil.example",
        &long,
    ] {
        assert_eq!(find(text), None, "{text:?}");
    }
}

#[test]
fn a_path_never_becomes_another_host_and_odd_letters_never_a_name() {
    // Full-width letters fold into ASCII: the host that is compared is the one the browser goes to.
    assert_eq!(find("https://ａpp.example.org/").as_deref(), Some("https://app.example.org/"));
    assert_eq!(find("https://аpp.example.org/"), None, "a Cyrillic letter");
    assert_eq!(targets().find("/x").unwrap().origin(), None);
    assert_eq!(
        targets().find("https://app.example.org/x").unwrap().origin(),
        Some("https://app.example.org")
    );
}

#[test]
fn on_loopback_any_port_may_be_listed() {
    for targets in [
        ReturnTargets::default().and_loopback(),
        ReturnTargets::parse(&["http://localhost:*/", "http://127.0.0.1:*"]).unwrap(),
    ] {
        for good in ["http://localhost:8080/x", "http://127.0.0.1:1/", "http://localhost"] {
            assert!(targets.find(good).is_ok(), "{good}");
        }
        for bad in [
            "https://localhost:8080/",
            "http://localhost.evil.example:80/",
            "http://127.0.0.1.nip.io/",
            "http://127.0.0.2/",
        ] {
            assert!(targets.find(bad).is_err(), "{bad}");
        }
    }
}

#[test]
fn entries_are_origins_or_urls_to_lie_under() {
    for bad in [
        "",
        "app.example.org",
        "http://app.example.org",
        "https://app.example.org?x",
        "https://app.example.org/#x",
        "https://u@app.example.org",
        "https://*.example.org",
        "https://app.example.org:*",
        "javascript:x",
        "/x",
        "https://app.example.org/a%2fb",
    ] {
        assert!(ReturnTargets::parse(&[bad]).is_err(), "{bad}");
    }
    for good in
        ["https://app.example.org", "https://app.example.org/x", "http://localhost:3000/", "http://[::1]:*"]
    {
        assert!(ReturnTargets::parse(&[good]).is_ok(), "{good}");
    }
}

/// What a browser makes of a `Location` on a page of `https://page.example.org`.
fn browser_goes_to(location: &str) -> Url {
    Url::parse("https://page.example.org/login").unwrap().join(location).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_accepted_stays_on_the_list(
        text in prop_oneof![
            "(/|//|\\\\|https:|http:|HTTPS://|javascript:|[a-z.@:%/?#\\\\ \t0-9]){0,8}",
            "(https?://)?(app\\.example\\.org|big\\.example\\.org/app/|evil\\.example|[/.@:%2fF5cCeE?#\\\\]{0,4}){1,6}",
            "/[/.%2fF5cCeE?#\\\\a-z]{0,12}",
            any::<String>(),
        ]
    ) {
        if let Ok(found) = targets().find(&text) {
            prop_assert!(found.as_str().bytes().all(|b| b.is_ascii_graphic()), "{text:?}: {found}");
            let url = browser_goes_to(found.as_str());
            let host = url.host_str().unwrap_or_default().to_owned();
            prop_assert!(url.scheme() == "https" && url.port().is_none(), "{text:?}: {url}");
            match host.as_str() {
                "page.example.org" => prop_assert!(found.origin().is_none()),
                "app.example.org" => {}
                "big.example.org" => prop_assert!(url.path().starts_with("/app/"), "{text:?}: {url}"),
                "one.example.org" => prop_assert!(url.path() == "/x" || url.path().starts_with("/x/"), "{text:?}"),
                other => prop_assert!(false, "{text:?} leads to {other}"),
            }
            // What was given out is found again, and stays what it is.
            let again = targets().find(found.as_str());
            prop_assert_eq!(again, Ok(found), "{:?}", text);
        }
    }
}
