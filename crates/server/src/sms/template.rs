//! The body of a request: a text with `{{to}}` and `{{text}}`, which are escaped as its content type asks.

use std::fmt::Write as _;

/// A body template that has been checked: both placeholders are there, no other is, and what comes out is
/// well-formed whatever the message says.
#[derive(Clone, Debug)]
pub(super) struct BodyTemplate {
    parts: Vec<Part>,
    escape: Escape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    To,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    Json,
    Form,
    None,
}

impl BodyTemplate {
    /// Reads a template. The error says what to do.
    pub(super) fn parse(text: &str, content_type: &str) -> Result<Self, String> {
        let escape = Escape::of(content_type).ok_or(
            "is not known: use application/json, application/x-www-form-urlencoded or text/plain as content_type",
        )?;
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or("has {{ without }}")?;
            let part = match name.trim() {
                "to" => Part::To,
                "text" => Part::Text,
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(format!(
                        "has {{{{{other}}}}}; the placeholders are {{{{to}}}} and {{{{text}}}}"
                    ));
                }
            };
            parts.push(Part::Literal(before.to_owned()));
            parts.push(part);
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        for (part, name) in [(Part::To, "to"), (Part::Text, "text")] {
            if !parts.contains(&part) {
                return Err(format!("needs the placeholder {{{{{name}}}}}"));
            }
        }
        let template = Self { parts, escape };
        // What any message could break, this one breaks.
        let sample = template.render("+10000000000", "\"quotes\", \\ and\nlines");
        if escape == Escape::Json && serde_json::from_str::<serde_json::Value>(&sample).is_err() {
            return Err(
                "does not make JSON: write the placeholders inside of string quotes, \"{{text}}\"".to_owned()
            );
        }
        Ok(template)
    }

    /// The body for one message.
    pub(super) fn render(&self, to: &str, text: &str) -> String {
        let mut body = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => body.push_str(literal),
                Part::To => self.escape.push(&mut body, to),
                Part::Text => self.escape.push(&mut body, text),
            }
        }
        body
    }
}

impl Escape {
    fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Some(Self::Json),
            "application/x-www-form-urlencoded" => Some(Self::Form),
            "text/plain" => Some(Self::None),
            other => (other.starts_with("application/") && other.ends_with("+json")).then_some(Self::Json),
        }
    }

    fn push(self, body: &mut String, value: &str) {
        match self {
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                body.push_str(&quoted[1..quoted.len() - 1]);
            }
            Self::Form => {
                for byte in value.bytes() {
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*') {
                        body.push(char::from(byte));
                    } else if byte == b' ' {
                        body.push('+');
                    } else {
                        // Writing to a String does not fail.
                        let _ = write!(body, "%{byte:02X}");
                    }
                }
            }
            Self::None => body.push_str(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const JSON: &str = r#"{"to": "{{to}}", "message": {"body": "{{ text }}"}}"#;
    const FORM: &str = "To={{to}}&Body={{text}}&From=Reseal";

    #[test]
    fn json_is_escaped() {
        let template = BodyTemplate::parse(JSON, "application/json; charset=utf-8").unwrap();
        let body = template.render("+4915112345678", "a \"b\" \\ {{to}}\n\u{1}");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["to"], "+4915112345678");
        assert_eq!(value["message"]["body"], "a \"b\" \\ {{to}}\n\u{1}");
    }

    #[test]
    fn a_form_is_escaped() {
        let template = BodyTemplate::parse(FORM, "application/x-www-form-urlencoded").unwrap();
        assert_eq!(template.render("+49151", "a&b=c é"), "To=%2B49151&Body=a%26b%3Dc+%C3%A9&From=Reseal");
    }

    #[test]
    fn plain_text_is_left_as_it_is() {
        let template = BodyTemplate::parse("{{to}}: {{text}}", "text/plain").unwrap();
        assert_eq!(template.render("+49151", "a & b"), "+49151: a & b");
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_at_start() {
        for (body, content_type, says) in [
            (r#"{"to": "{{to}}"}"#, "application/json", "{{text}}"),
            (r#"{"text": "{{text}}"}"#, "application/json", "{{to}}"),
            (r#"{"to": {{to}}, "text": {{text}}}"#, "application/json", "quotes"),
            (r#"{"to": "{{to}}", "text": {{text}}}"#, "application/vnd.example+json", "quotes"),
            (r#"{"to": "{{to}}", "text": "{{text}}", "x": "{{nonce}}"}"#, "application/json", "nonce"),
            (r#"{"to": "{{to"#, "application/json", "}}"),
            ("<a>{{to}}{{text}}</a>", "application/xml", "content_type"),
        ] {
            let error = BodyTemplate::parse(body, content_type).unwrap_err();
            assert!(error.contains(says), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_message_breaks_out_of_its_place(to in ".*", text in ".*") {
            let json = BodyTemplate::parse(JSON, "application/json").unwrap().render(&to, &text);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value, serde_json::json!({"to": to, "message": {"body": text}}));

            let form = BodyTemplate::parse(FORM, "application/x-www-form-urlencoded").unwrap().render(&to, &text);
            let url = reqwest::Url::parse(&format!("http://a.example/?{form}")).unwrap();
            let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
            prop_assert_eq!(pairs, [pair("To", &to), pair("Body", &text), pair("From", "Reseal")]);
        }
    }
}
