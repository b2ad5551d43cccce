//! The errors that the HTTP/1 parser answers by itself, without a body, get ours.

use bytes::Bytes;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream on which the parser's bare answers are written as we write ours.
#[derive(Debug)]
pub(super) struct Worded<S> {
    stream: S,
    instead: Option<Instead>,
}

/// What is written in place of the parser's own answer.
#[derive(Debug)]
struct Instead {
    rest: Bytes,
    /// The length of what it stands for.
    stands_for: usize,
}

impl<S> Worded<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, instead: None }
    }
}

impl<S: AsyncWrite + Unpin> Worded<S> {
    fn write_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(Instead { rest, stands_for }) = &mut self.instead {
            if rest.is_empty() {
                let whole = *stands_for;
                self.instead = None;
                return Poll::Ready(Ok(whole));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = rest.split_to(written);
        }
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Worded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.instead.is_none()
            && let Some(ours) = with_body(buf)
        {
            this.instead = Some(Instead { rest: ours, stands_for: buf.len() });
        }
        if this.instead.is_some() {
            return this.write_instead(cx);
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_some() || bufs.len() == 1 {
            return self.poll_write(cx, bufs.first().map_or(&[], |b| b));
        }
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Worded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// The parser's own answer with a body of ours, if `head` is one: handlers never answer these without a
/// body and its type.
fn with_body(head: &[u8]) -> Option<Bytes> {
    let (status, error, description) = match head.strip_prefix(b"HTTP/1.")?.get(1..5)? {
        b" 400" => ("400 Bad Request", "invalid_request", "This is not a well-formed HTTP request."),
        b" 414" => ("414 URI Too Long", "uri_too_long", "The URL is too long."),
        b" 431" => ("431 Request Header Fields Too Large", "headers_too_large", "The headers are too large."),
        _ => return None,
    };
    let text = std::str::from_utf8(head).ok()?;
    if !text.contains("\r\ncontent-length: 0\r\n") || text.contains("\r\ncontent-type:") {
        return None;
    }
    let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
    Some(Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn bare_errors_of_the_parser_get_a_body() {
        let (ours, mut theirs) = duplex(7);
        let mut connection = Worded::new(ours);
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let writer = tokio::spawn(async move { connection.write_all(bare).await });
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        writer.await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("connection: close"));
        assert_eq!(body["error"], "headers_too_large");
    }

    #[tokio::test]
    async fn answers_of_handlers_pass_unchanged() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            let (ours, mut theirs) = duplex(1024);
            let mut connection = Worded::new(ours);
            connection.write_all(text.as_bytes()).await.unwrap();
            drop(connection);
            let mut read = String::new();
            theirs.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, text);
        }
    }
}
