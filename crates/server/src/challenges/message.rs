//! What a text message says, and what a login page may show of a phone number.

/// What the code in a message is for.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// The second step of a login.
    Login {
        /// The client's name for people.
        client: &'a str,
    },
    /// The proof that a phone is the user's.
    Phone,
}

impl Message<'_> {
    /// The message. It names its purpose, so that a code that somebody wheedles out of the user says what
    /// it opens; the code is its only run of six digits, and there is never a link.
    pub fn text(self, code: &str) -> String {
        let purpose = match self {
            Self::Login { client } if is_plain(client) => format!("sign in to {client}"),
            Self::Login { .. } => "sign in".to_owned(),
            Self::Phone => "confirm this phone for two-step sign-in".to_owned(),
        };
        format!("{code} is your code to {purpose}. It is good for 5 minutes. Do not share it with anyone.")
    }
}

/// Whether a client's name can stand in a message: short, with nothing that a phone would make a link of
/// and no digits that could be taken for the code.
fn is_plain(name: &str) -> bool {
    let digits_in_a_row =
        name.split(|c: char| !c.is_numeric()).map(|run| run.chars().count()).max().unwrap_or(0);
    let link = name.contains(['/', ':', '@', '\\'])
        || name.split('.').skip(1).any(|rest| rest.starts_with(char::is_alphanumeric));
    (1..=40).contains(&name.chars().count())
        && digits_in_a_row < 4
        && !link
        && !name.chars().any(char::is_control)
}

/// The last two digits of a number: enough to tell one's own phones apart.
pub fn hint(phone_number: &str) -> String {
    let digits = phone_number.len().saturating_sub(2);
    format!("••• {}", phone_number.get(digits..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs_of_six(text: &str) -> Vec<&str> {
        text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() >= 6).collect()
    }

    #[test]
    fn the_code_is_the_only_six_digit_run_and_there_is_no_link() {
        for client in
            ["Shop", "Shop 1234567", "shop.example", "https://evil.example/x", "a:b", "", &"x".repeat(41)]
        {
            for message in [Message::Login { client }, Message::Phone] {
                let text = message.text("042137");
                assert_eq!(runs_of_six(&text), ["042137"], "{text}");
                assert!(!text.contains("example") && !text.contains("://"), "{text}");
                assert!(text.len() <= 160 && text.is_ascii(), "one message: {text}");
            }
        }
        assert!(Message::Login { client: "Dr. Shop" }.text("000000").contains("sign in to Dr. Shop."));
        assert!(Message::Phone.text("000000").contains("two-step"));
    }

    #[test]
    fn a_hint_tells_two_digits() {
        assert_eq!(hint("+4915112345678"), "••• 78");
        assert_eq!(hint(""), "••• ");
    }
}
