//! Server-sent events: bytes to messages (WHATWG HTML §9.2.5 and §9.2.6), with bounds. Pure.

use reseal_core::feed::MAX_DATA_LEN;
use std::mem::take;

/// Longest line: the longest data and its field name.
const MAX_LINE: usize = MAX_DATA_LEN + 64;
/// Longest `event` and `id`.
const MAX_FIELD: usize = 1024;

/// A message as it was dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// `event:`; empty stands for `message`.
    pub(crate) name: String,
    /// `data:`, its lines joined by line feeds.
    pub(crate) data: String,
    /// `id:`, if this very message has one.
    pub(crate) id: Option<String>,
}

/// A line or a message that is longer than any of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line or a message is too long")]
pub(crate) struct TooLong;

/// Reads a stream in chunks that may end anywhere, inside a character included.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The line so far. Split at bytes and decoded whole: line ends are ASCII, so that decoding each line
    /// gives the same text as decoding the stream.
    line: Vec<u8>,
    /// The last byte was CR: a LF that follows belongs to it.
    after_cr: bool,
    /// A byte order mark may only be at the start of the first line.
    past_first_line: bool,
    name: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl Parser {
    /// Takes a chunk in and appends the messages that it completes.
    pub(crate) fn push(&mut self, mut chunk: &[u8], messages: &mut Vec<Message>) -> Result<(), TooLong> {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend_line(&chunk[..end])?;
            self.end_line(messages)?;
            let is_cr = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            if is_cr {
                self.after_cr = chunk.is_empty();
                chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
            }
        }
        self.extend_line(chunk)
    }

    fn extend_line(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > MAX_LINE {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, messages: &mut Vec<Message>) -> Result<(), TooLong> {
        let bytes = take(&mut self.line);
        let mut line = bytes.as_slice();
        if !self.past_first_line {
            self.past_first_line = true;
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            messages.extend(self.dispatch());
        } else {
            self.field(&String::from_utf8_lossy(line))?;
        }
        // Its memory serves the next line.
        self.line = bytes;
        self.line.clear();
        Ok(())
    }

    fn field(&mut self, line: &str) -> Result<(), TooLong> {
        // A comment is a line whose field name is empty: no known one.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.data.len() + usize::from(self.has_data) + value.len() > MAX_DATA_LEN {
                    return Err(TooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "event" | "id" if value.len() > MAX_FIELD => return Err(TooLong),
            "event" => value.clone_into(&mut self.name),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        Ok(())
    }

    /// An empty line. Without data there is nothing to dispatch.
    fn dispatch(&mut self) -> Option<Message> {
        let (name, data, id) = (take(&mut self.name), take(&mut self.data), self.id.take());
        take(&mut self.has_data).then_some(Message { name, data, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Result<Vec<Message>, TooLong> {
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser.push(chunk, &mut messages)?;
        }
        Ok(messages)
    }

    fn message(name: &str, data: &str, id: Option<&str>) -> Message {
        Message { name: name.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn messages_are_read_as_the_standard_has_it() {
        let stream = b"\xef\xbb\xbf: a comment\n\
            event: one\nid: 7\ndata: {}\n\n\
            data:first\ndata: second\ndata\nretry: 10\nunknown: x\n\n\
            event: no data\n\n\
            id: with\0nul\ndata:  two spaces\n\n\
            :\n\ndata\n\n\
            event: cut off\ndata: never dispatched\n";
        let expected = vec![
            message("one", "{}", Some("7")),
            message("", "first\nsecond\n", None),
            message("", " two spaces", None),
            message("", "", None),
        ];
        assert_eq!(parse(&[stream]), Ok(expected.clone()));
        let text = String::from_utf8(stream.to_vec()).unwrap();
        for end in ["\r", "\r\n"] {
            assert_eq!(parse(&[text.replace('\n', end).as_bytes()]), Ok(expected.clone()), "{end:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_one_only_at_the_start() {
        assert_eq!(parse(&[b"\n\xef\xbb\xbfdata: x\n\n"]), Ok(vec![]));
        assert_eq!(parse(&[b"\xef\xbb\xbf\xef\xbb\xbfdata: x\n\n"]), Ok(vec![]));
        assert_eq!(parse(&[b"\xef", b"\xbb", b"\xbfdata: x\n\n"]), Ok(vec![message("", "x", None)]));
    }

    #[test]
    fn lines_and_messages_are_bounded() {
        let long = "x".repeat(MAX_DATA_LEN);
        assert!(parse(&[format!("data: {long}\n\n").as_bytes()]) == Ok(vec![message("", &long, None)]));
        for bad in [
            format!("data: {long}y\n\n"),
            format!("data: {long}\ndata\n\n"),
            "data: xxxxxxxxx\n".repeat(9000),
            format!("id: {long}\n"),
            format!("event: {long}\n"),
        ] {
            assert!(parse(&[bad.as_bytes()]) == Err(TooLong), "{}", &bad[..20]);
        }
        let endless = vec![b'x'; 1000];
        let chunks: Vec<&[u8]> = (0..100).map(|_| endless.as_slice()).collect();
        assert_eq!(parse(&chunks), Err(TooLong));
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n\n".to_vec()),
            Just(b"data: ".to_vec()),
            Just(b"event:".to_vec()),
            Just(b"id: ".to_vec()),
            Just(b": ".to_vec()),
            Just("\u{feff}".as_bytes().to_vec()),
            Just("é€🦀".as_bytes().to_vec()),
            "[a-z{}0-9]{0,8}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(
            bytes in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..30),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(parse(&chunks), parse(&[&bytes]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(parse(&single), parse(&[&bytes]));
        }
    }
}
