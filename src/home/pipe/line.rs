//! Lines of bounded length from a byte stream.

use std::io;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line that is passed on, in bytes, without its end. Attached servers are held to less; this bounds our own memory.
pub(super) const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// What is kept of a line that is too long, to find out which request it was.
const KEPT_OF_LONGER: usize = 4096;

/// What a stream gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, without its `\n`.
    Whole(Vec<u8>),
    /// The beginning of a line that is too long; the rest has been skipped.
    TooLong(Vec<u8>),
    /// The stream ended within a line.
    Cut(Vec<u8>),
}

/// A reader of lines. [`Lines::next`] may be dropped and called again without losing anything.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    skipping: bool,
    longest: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            line: Vec::new(),
            skipping: false,
            longest: LONGEST_LINE,
        }
    }

    /// The next line, or `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(self.rest());
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            if !self.skipping {
                self.line.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
            }
            let taken = end.map_or(chunk.len(), |end| end + 1);
            self.reader.consume(taken);
            if self.line.len() > self.longest {
                self.skipping = true;
                self.line.truncate(KEPT_OF_LONGER);
                self.line.shrink_to_fit();
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                let skipped = std::mem::take(&mut self.skipping);
                return Ok(Some(if skipped { Line::TooLong(line) } else { Line::Whole(line) }));
            }
        }
    }

    /// Resolves at the end of the stream, and never while something is left to read. May be dropped like [`Lines::next`].
    pub(super) async fn closed(&mut self) {
        let left = matches!(self.reader.fill_buf().await, Ok(chunk) if !chunk.is_empty());
        if left || !self.line.is_empty() {
            std::future::pending().await
        }
    }

    fn rest(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.line);
        match (std::mem::take(&mut self.skipping), line.is_empty()) {
            (true, _) => Some(Line::TooLong(line)),
            (false, false) => Some(Line::Cut(line)),
            (false, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    fn whole(text: &str) -> Option<Line> {
        Some(Line::Whole(text.into()))
    }

    #[tokio::test]
    async fn lines_come_whole_and_the_last_one_says_that_it_was_cut() {
        let mut lines = Lines::new(&b"one\n\ntwo\r\nthr"[..]);
        assert_eq!(lines.next().await.unwrap(), whole("one"));
        assert_eq!(lines.next().await.unwrap(), whole(""));
        assert_eq!(lines.next().await.unwrap(), whole("two\r"));
        assert_eq!(lines.next().await.unwrap(), Some(Line::Cut(b"thr".to_vec())));
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_its_beginning_kept() {
        let (mut writer, reader) = tokio::io::duplex(64 * 1024);
        let mut lines = Lines { longest: 10_000, ..Lines::new(reader) };
        let writing = async {
            writer.write_all(&[b'x'; 50_000]).await.unwrap();
            writer.write_all(b"\nshort\n").await.unwrap();
        };
        let reading = async { (lines.next().await.unwrap(), lines.next().await.unwrap()) };
        let ((first, second), ()) = tokio::join!(reading, writing);
        assert_eq!(first, Some(Line::TooLong(vec![b'x'; KEPT_OF_LONGER])));
        assert_eq!(second, whole("short"));
    }

    #[tokio::test]
    async fn a_stream_is_closed_once_nothing_is_left_to_read() {
        let mut lines = Lines::new(&b"last\n"[..]);
        assert!(futures_util::future::poll_immediate(lines.closed()).await.is_none());
        assert_eq!(lines.next().await.unwrap(), whole("last"));
        assert!(futures_util::future::poll_immediate(lines.closed()).await.is_some());
    }

    #[tokio::test]
    async fn a_dropped_read_loses_nothing() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(reader);
        writer.write_all(b"half").await.unwrap();
        assert!(futures_util::future::poll_immediate(lines.next()).await.is_none());
        writer.write_all(b" a line\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), whole("half a line"));
    }
}
