//! Lines of bounded length from a stream.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};

/// How much of each end of an overlong line is kept: enough to find the id of the message.
const KEPT: usize = 512;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// The line was longer than the limit and has been skipped up to its end.
    TooLong {
        head: Vec<u8>,
        tail: Vec<u8>,
    },
}

/// Splits a stream at line feeds and never holds more than `limit` bytes of a line.
#[derive(Debug)]
pub(super) struct BoundedLines<R> {
    source: BufReader<R>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    pub(super) fn new(source: R, limit: usize) -> Self {
        Self { source: BufReader::with_capacity(64 * 1024, source), limit }
    }

    /// The next line without its line feed; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        loop {
            let (used, ended) = take(&mut self.source, &mut line).await?;
            if used == 0 {
                return Ok((!line.is_empty()).then_some(Line::Whole(line)));
            }
            if line.len() > self.limit {
                return self.skip(line, ended).await.map(Some);
            }
            if ended {
                return Ok(Some(Line::Whole(line)));
            }
        }
    }

    async fn skip(&mut self, mut line: Vec<u8>, mut ended: bool) -> io::Result<Line> {
        let head = line[..KEPT.min(line.len())].to_vec();
        loop {
            let excess = line.len().saturating_sub(KEPT);
            line.drain(..excess);
            if ended {
                return Ok(Line::TooLong { head, tail: line });
            }
            let (used, found) = take(&mut self.source, &mut line).await?;
            ended = found || used == 0;
        }
    }
}

/// Moves what is buffered, up to the end of the line, into `line`. Returns the bytes used and whether the line has ended.
async fn take<R: AsyncBufRead + Unpin>(source: &mut R, line: &mut Vec<u8>) -> io::Result<(usize, bool)> {
    let buffered = source.fill_buf().await?;
    let end = buffered.iter().position(|&byte| byte == b'\n');
    line.extend_from_slice(&buffered[..end.unwrap_or(buffered.len())]);
    let used = end.map_or(buffered.len(), |end| end + 1);
    source.consume(used);
    Ok((used, end.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_overlong_line_is_skipped_and_the_next_one_is_read() {
        let text = format!("one\n\nstart{}end\nlast", "x".repeat(300_000));
        let mut lines = BoundedLines::new(text.as_bytes(), 1000);
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole(b"one".to_vec())));
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole(Vec::new())));
        let Some(Line::TooLong { head, tail }) = lines.next().await.unwrap() else { panic!("the line was kept") };
        assert!(head.starts_with(b"start") && tail.ends_with(b"end") && tail.len() <= KEPT);
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole(b"last".to_vec())));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
