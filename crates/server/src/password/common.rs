//! The passwords that everybody tries first (ASVS 6.2.4).

/// Sorted by bytes, lower case, one a line, each of 8 and more characters (shorter ones are refused
/// anyway). It stays in the binary's read-only pages; see assets/README.md for its source.
const LIST: &str = include_str!("../../assets/common-passwords.txt");

/// Whether the password is a common one, however it is capitalised.
pub(super) fn is_common(password: &str) -> bool {
    contains_line(LIST, &password.to_lowercase())
}

/// Whether a sorted list, each line ended by a line feed, has this line.
fn contains_line(list: &str, wanted: &str) -> bool {
    let bytes = list.as_bytes();
    let (mut low, mut high) = (0, bytes.len());
    // Both ends always lie at the beginning of a line.
    while low < high {
        let middle = low + (high - low) / 2;
        let start = bytes[low..middle].iter().rposition(|b| *b == b'\n').map_or(low, |at| low + at + 1);
        let end = bytes[middle..high].iter().position(|b| *b == b'\n').map_or(high, |at| middle + at);
        match bytes[start..end].cmp(wanted.as_bytes()) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => low = (end + 1).min(high),
            std::cmp::Ordering::Greater => high = start,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_lower_case_and_of_allowed_length() {
        let lines: Vec<&str> = LIST.lines().collect();
        assert!(lines.len() > 8000 && LIST.ends_with('\n'));
        assert!(lines.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()));
        for line in lines {
            assert!(line.chars().count() >= 8 && line.to_lowercase() == line, "{line}");
        }
    }

    #[test]
    fn every_entry_is_found_and_no_neighbour_of_one() {
        for line in LIST.lines() {
            assert!(is_common(line) && is_common(&line.to_uppercase()), "{line}");
            let longer = format!("{line}\u{1}~");
            assert!(!is_common(&longer), "{longer}");
        }
        for other in ["", "\n", "correct horse battery staple", "\u{10ffff}", "password1\npassword"] {
            assert!(!is_common(other), "{other:?}");
        }
    }

    #[test]
    fn short_lists_have_no_edge_cases() {
        assert!(!contains_line("", "a"));
        for list in ["a\n", "a\nb\n", "a\nb\nc\n"] {
            for line in list.lines() {
                assert!(contains_line(list, line));
            }
            for other in ["", "0", "aa", "d"] {
                assert!(!contains_line(list, other), "{list:?} {other:?}");
            }
        }
    }
}
