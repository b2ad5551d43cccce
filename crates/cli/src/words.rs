//! Times as people say them, with the exact one beside.

use reseal_core::Timestamp;
use std::time::Duration;

/// A length of time in its two largest units, rounded down: "4 min 5 s", "2 h 5 min", "3 days".
pub(crate) fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    let units = [(86_400, "day"), (3600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(n, _)| secs >= *n) else { return "0 s".to_owned() };
    let mut rest = secs;
    let mut parts = Vec::new();
    for (n, unit) in units.into_iter().skip(first).take(2) {
        let count = rest / n;
        rest %= n;
        let plural = if unit == "day" && count != 1 { "s" } else { "" };
        if count > 0 {
            parts.push(format!("{count} {unit}{plural}"));
        }
    }
    parts.join(" ")
}

/// How far away an instant is: "in 4 min", "2 h ago", "now".
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    match (at.secs(), now.secs()) {
        (at, now) if at == now => "now".to_owned(),
        (at_secs, now_secs) if at_secs > now_secs => format!("in {}", duration(at.since(now))),
        _ => format!("{} ago", duration(now.since(at))),
    }
}

/// The exact instant, to the second, in UTC.
pub(crate) fn exact(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.secs()) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        // Beyond the year 9999; only a forged or broken token says so.
        Err(_) => format!("Unix second {}", at.secs()),
    }
}

/// Both: "in 4 min (2026-03-01 12:04:00 UTC)".
pub(crate) fn both(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", relative(at, now), exact(at))
}

/// A number of bytes: "950 B", "4.1 KiB", "1.2 GiB".
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        // In tenths, rounded down, so that no floating point is needed.
        Some((unit, size)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// A number with its noun: "1 session", "1,204 sessions".
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A number with its thousands apart: "1,204".
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_like_speech() {
        let say = |secs| duration(Duration::from_secs(secs));
        assert_eq!(say(0), "0 s");
        assert_eq!(say(59), "59 s");
        assert_eq!(say(245), "4 min 5 s");
        assert_eq!(say(3600), "1 h");
        assert_eq!(say(86_400), "1 day");
        assert_eq!(say(14 * 86_400 + 3 * 3600 + 59), "14 days 3 h");
        // The second unit is the next smaller one, or nothing: precision that nobody asked for is noise.
        assert_eq!(say(86_400 + 59), "1 day");
    }

    #[test]
    fn instants_are_told_from_where_we_stand() {
        let now = Timestamp::from_secs(1_700_000_000);
        assert_eq!(relative(now, now), "now");
        assert_eq!(relative(now + Duration::from_secs(240), now), "in 4 min");
        assert_eq!(both(now - Duration::from_secs(7200), now), "2 h ago (2023-11-14 20:13:20 UTC)");
        assert_eq!(exact(Timestamp::from_millis(i64::MAX)), "Unix second 9223372036854775");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_rounded_down() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(count(1, "session"), "1 session");
        assert_eq!(count(0, "session"), "0 sessions");
        assert_eq!(bytes(950), "950 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
