//! Phone numbers: what a user typed, checked against the world's numbering plans.
//!
//! The plans are those of Google's libphonenumber, through its Rust port. They are decoded at the first
//! number that is looked at and kept: about 13 MB, which an authority without phones never pays.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType};
use std::fmt;

/// A phone number in E.164 that can exist and can get a text message, for example `+4915112345678`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct E164(String);

impl E164 {
    /// The number: `+` and 7 to 15 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::mask(&self.0))
    }
}

/// Why a text is no number that a message can be sent to. The messages are for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPhone {
    /// Without country code it could be anybody's.
    #[error("write the number with + and the country code, for example +49 151 12345678")]
    NotInternational,
    /// Something in it is neither a digit nor a separator.
    #[error("a phone number has digits, spaces, dashes, dots, slashes and parentheses only")]
    Malformed,
    /// No country has such numbers.
    #[error("there is no such phone number; check its digits")]
    Unknown,
    /// A premium-rate, shared-cost or toll-free number, a pager or a mailbox.
    #[error("text messages cannot be sent to this kind of number")]
    NoTextMessages,
}

/// Longest text that is looked at: the longest number with generous separators.
const MAX_LEN: usize = 64;

/// Reads a number in international form and normalises it to E.164.
///
/// It must be valid by the numbering plan of its country, not merely of possible length, and be of a kind
/// that ordinary people have: the others cost money to text (toll fraud) or cannot be texted. Numbers of
/// the never assigned North American area code 555 pass as well, since demonstrations and tests are full of
/// them and a message to one reaches nobody.
pub fn parse(text: &str) -> Result<E164, InvalidPhone> {
    let digits = digits(text)?;
    if is_fictional(&digits) {
        return Ok(E164(digits));
    }
    let number = PHONE_NUMBER_UTIL.parse(&digits, None).map_err(|_| InvalidPhone::Unknown)?;
    if !PHONE_NUMBER_UTIL.is_possible_number(&number) || !PHONE_NUMBER_UTIL.is_valid_number(&number) {
        return Err(InvalidPhone::Unknown);
    }
    if !gets_text_messages(&number) {
        return Err(InvalidPhone::NoTextMessages);
    }
    Ok(E164(PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164).into_owned()))
}

/// `+` and the digits, without what people write between them.
fn digits(text: &str) -> Result<String, InvalidPhone> {
    if text.len() > MAX_LEN {
        return Err(InvalidPhone::Malformed);
    }
    let rest = text.trim().strip_prefix('+').ok_or(InvalidPhone::NotInternational)?;
    let mut digits = String::from("+");
    for c in rest.chars() {
        match c {
            '0'..='9' => digits.push(c),
            ' ' | '\u{a0}' | '\u{202f}' | '-' | '\u{2010}' | '\u{2011}' | '.' | '/' | '(' | ')' => {}
            _ => return Err(InvalidPhone::Malformed),
        }
    }
    Ok(digits)
}

/// Area code 555 of the North American plan with a well-formed subscriber number.
fn is_fictional(digits: &str) -> bool {
    digits.strip_prefix("+1555").is_some_and(|rest| rest.len() == 7)
}

fn gets_text_messages(number: &PhoneNumber) -> bool {
    !matches!(
        PHONE_NUMBER_UTIL.get_number_type(number),
        PhoneNumberType::PremiumRate
            | PhoneNumberType::SharedCost
            | PhoneNumberType::TollFree
            | PhoneNumberType::Pager
            | PhoneNumberType::UAN
            | PhoneNumberType::VoiceMail
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_normalised_to_e164() {
        for (typed, normal) in [
            ("+4915112345678", "+4915112345678"),
            (" +49 151 1234-5678 ", "+4915112345678"),
            ("+49 (0) 151 / 12345678", "+4915112345678"),
            ("+1 202 555 0123", "+12025550123"),
            ("+1 (202) 555.0123", "+12025550123"),
            ("+44 20 7183 8750", "+442071838750"),
            ("+33\u{a0}6\u{a0}12\u{a0}34\u{a0}56\u{a0}78", "+33612345678"),
            ("+39 06 698 12345", "+390669812345"),
            ("+1 555 555 0100", "+15555550100"),
        ] {
            assert_eq!(parse(typed).unwrap().as_str(), normal, "{typed}");
        }
    }

    #[test]
    fn what_no_plan_knows_is_refused() {
        for typed in
            ["+", "+1", "+0123456789", "+999123456789", "+491", "+12025", "+4915112345678901", "+1555123456"]
        {
            assert_eq!(parse(typed), Err(InvalidPhone::Unknown), "{typed}");
        }
    }

    #[test]
    fn a_number_needs_its_country_code() {
        for typed in ["", "0151 12345678", "004915112345678", "202 555 0123", "tel:+12025550123"] {
            assert_eq!(parse(typed), Err(InvalidPhone::NotInternational), "{typed}");
        }
    }

    #[test]
    fn anything_but_digits_and_separators_is_refused() {
        for typed in
            ["+1 202 555 0123 ext. 4", "+1-800-FLOWERS", "+٤٩١٥١١٢٣٤٥٦٧٨", "+1202\n5550123", "++12025550123"]
        {
            assert_eq!(parse(typed), Err(InvalidPhone::Malformed), "{typed}");
        }
        assert_eq!(parse(&format!("+1{}", " ".repeat(100))), Err(InvalidPhone::Malformed));
    }

    #[test]
    fn numbers_that_cost_the_sender_are_refused() {
        for typed in ["+49 900 1234567", "+1 900 234 5678", "+44 909 8790123", "+1 800 234 5678"] {
            assert_eq!(parse(typed), Err(InvalidPhone::NoTextMessages), "{typed}");
        }
    }

    #[test]
    fn a_number_hides_from_debug() {
        assert_eq!(format!("{:?}", parse("+4915112345678").unwrap()), "+…78");
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_what_passes_is_e164_that_stays_as_it_is(text in "\\+?[0-9 ()./-]{0,20}|.{0,70}") {
            if let Ok(number) = parse(&text) {
                let digits = number.as_str().strip_prefix('+').unwrap();
                prop_assert!((7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
                prop_assert_eq!(parse(number.as_str()), Ok(number.clone()));
            }
        }
    }
}
