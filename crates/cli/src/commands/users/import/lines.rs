//! The lines of a file, each of bounded length.

use std::io::{self, BufRead, Read as _};

/// Longest line read, in bytes. A record is at most some 6 KiB; the rest is room for escapes.
pub(super) const MAX_LINE: usize = 64 * 1024;

/// Reads line by line and counts them from 1. A line that is too long is skipped to its end.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
}

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Its text, or why it has none.
    pub(super) text: Result<String, &'static str>,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`.
    pub(super) const fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line, if there is one.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
        if self.input.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = if bytes.last() == Some(&b'\n') || bytes.len() <= MAX_LINE {
            decode(bytes, self.number == 1)
        } else {
            self.skip_line()?;
            Err("longer than 64 KiB")
        };
        Ok(Some(Line { number: self.number, text }))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let Some(end) = buffer.iter().position(|b| *b == b'\n') else {
                let length = buffer.len();
                if length == 0 {
                    return Ok(());
                }
                self.input.consume(length);
                continue;
            };
            self.input.consume(end + 1);
            return Ok(());
        }
    }
}

/// The text without line end and, at the start of the file, without byte order mark.
fn decode(bytes: Vec<u8>, first: bool) -> Result<String, &'static str> {
    let mut text = String::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) if first => rest.to_owned(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<Line> {
        // A tiny buffer, so that lines span several fills.
        let mut lines = Lines::new(io::BufReader::with_capacity(7, input));
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    fn texts(input: &[u8]) -> Vec<Result<String, &'static str>> {
        all(input).into_iter().map(|l| l.text).collect()
    }

    #[test]
    fn line_ends_and_byte_order_marks_are_not_text() {
        let lines = texts("\u{feff}a\r\nb\n\nc".as_bytes());
        assert_eq!(lines, [Ok("a".into()), Ok("b".into()), Ok(String::new()), Ok("c".into())]);
        assert_eq!(texts(b""), []);
    }

    #[test]
    fn a_line_too_long_is_one_bad_line_and_the_next_is_read() {
        let mut input = vec![b'x'; MAX_LINE * 3];
        input.extend_from_slice(b"\nok\n");
        assert_eq!(all(&input)[1], Line { number: 2, text: Ok("ok".into()) });
        assert_eq!(texts(&input)[0], Err("longer than 64 KiB"));
        let longest = [vec![b'x'; MAX_LINE], b"\nok".to_vec()].concat();
        assert_eq!(texts(&longest)[0].as_ref().unwrap().len(), MAX_LINE);
    }

    #[test]
    fn what_is_not_utf_8_is_one_bad_line() {
        assert_eq!(texts(b"a\xff\nb"), [Err("not UTF-8"), Ok("b".into())]);
    }
}
