//! Server-sent events (WHATWG HTML, section 9.2), read from a byte stream.
//!
//! Our own, because the parser that rmcp brings ends the connection at the first field it doesn't know, where the standard says to
//! ignore it, and servers in the field do send such fields.

/// One dispatched event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; empty means `message`.
    pub event: String,
    /// All `data` lines, joined by a newline.
    pub data: String,
    /// The `id` field of this event.
    pub id: Option<String>,
}

/// An event grew past the decoder's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {limit} bytes")]
pub struct EventTooLarge {
    pub limit: usize,
}

/// Turns chunks, cut anywhere, into events.
#[derive(Debug)]
pub struct SseDecoder {
    limit: usize,
    line: Vec<u8>,
    after_cr: bool,
    at_start: bool,
    event: SseEvent,
    has_data: bool,
}

impl SseDecoder {
    /// `limit` bounds one line and one event's data, in bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), after_cr: false, at_start: true, event: SseEvent::default(), has_data: false }
    }

    /// Feeds a chunk and returns the events that it completes. What an ended stream leaves unfinished is dropped, as the standard says.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<SseEvent>, EventTooLarge> {
        let mut events = Vec::new();
        for &byte in chunk {
            let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => events.extend(self.end_line()?),
                _ if self.line.len() >= self.limit => return Err(EventTooLarge { limit: self.limit }),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    /// What the end of the stream leaves unfinished. The standard drops it; whoever knows better what a whole event looks like may look at it.
    pub fn finish(&mut self) -> Result<Option<SseEvent>, EventTooLarge> {
        if !self.line.is_empty()
            && let Some(event) = self.end_line()?
        {
            return Ok(Some(event));
        }
        Ok(self.dispatch())
    }

    fn end_line(&mut self) -> Result<Option<SseEvent>, EventTooLarge> {
        let bytes = std::mem::take(&mut self.line);
        let decoded = String::from_utf8_lossy(&bytes);
        let line = if std::mem::take(&mut self.at_start) { decoded.trim_start_matches('\u{feff}') } else { &*decoded };
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.event),
            "data" => {
                if self.event.data.len() + value.len() > self.limit {
                    return Err(EventTooLarge { limit: self.limit });
                }
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            _ => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, step: usize) -> Vec<SseEvent> {
        let mut decoder = SseDecoder::new(1024);
        text.as_bytes().chunks(step).flat_map(|chunk| decoder.push(chunk).unwrap()).collect()
    }

    #[test]
    fn events_come_out_the_same_however_the_stream_is_cut() {
        let text = "\u{feff}: hello\r\nevent: a\r\ndata: 1\r\ndata:2\r\nid: 7\r\n\r\nvendor: x\rdata: ü\r\rdata: last\n\nevent: none\n\ndata: cut";
        let whole = decode(text, text.len());
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0], SseEvent { event: "a".into(), data: "1\n2".into(), id: Some("7".into()) });
        assert_eq!(whole[1].data, "ü");
        assert_eq!(whole[2].data, "last");
        for step in 1..9 {
            assert_eq!(decode(text, step), whole, "cut every {step} bytes");
        }
    }

    #[test]
    fn what_the_end_leaves_unfinished_is_given_to_whoever_asks_for_it() {
        for (text, left) in
            [("data: a\n\ndata: b\n", Some("b")), ("data: a\n\ndata: b", Some("b")), ("data: a\n\n", None)]
        {
            let mut decoder = SseDecoder::new(1024);
            assert_eq!(decoder.push(text.as_bytes()).unwrap().len(), 1);
            assert_eq!(decoder.finish().unwrap().map(|event| event.data).as_deref(), left, "{text:?}");
            assert_eq!(decoder.finish().unwrap(), None);
        }
    }

    #[test]
    fn an_event_past_the_limit_is_an_error() {
        let mut decoder = SseDecoder::new(8);
        assert!(decoder.push(b"data: 123456789").is_err());
        let mut decoder = SseDecoder::new(12);
        assert!(decoder.push(b"data: 12345\ndata: 12345\ndata: 12345\n").is_err());
    }
}
