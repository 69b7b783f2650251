//! From the bytes of an answer to a reply: events or one JSON body, bounded. No IO here; `wire` feeds it.

use super::error::{Fault, shown};
use super::turn::{TurnReply, TurnSink};
use crate::net::sse::{SseDecoder, SseEvent};
use serde::de::IgnoredAny;

/// The largest single event, in bytes.
const MAX_EVENT: usize = 4 << 20;
/// The largest answer, in bytes.
const MAX_RESPONSE: usize = 32 << 20;

/// The end marker of OpenAI's streams, and the only event that is no JSON.
const DONE: &str = "[DONE]";

/// Why an answer can't be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// It ended without its end marker.
    Cut,
    /// It isn't what the dialect says.
    Malformed(String),
    /// The provider reports an error inside an answer that began well.
    Reported(Fault),
}

impl BodyFault {
    pub(super) fn malformed(what: &str, cause: &serde_json::Error) -> Self {
        // The cause may quote what it found there.
        Self::Malformed(shown(&format!("{what} is not what the dialect says: {cause}")))
    }
}

/// What an answer is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events, or one JSON body in their place.
    Events,
    /// Lines of JSON; each becomes the data of an event.
    Lines,
}

/// Puts a dialect's events together.
pub(super) trait Assembly: Send {
    const FRAMING: Framing = Framing::Events;

    /// Takes one event; `true` = it was the end marker.
    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault>;

    /// Takes the plain JSON body that some servers send in place of a stream.
    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault>;

    /// Is the answer whole, though no end marker came? A dialect says so that has none, or whose servers may leave theirs out, where the
    /// model's last word tells it. Not asked where the connection was lost.
    fn is_whole(&self) -> bool {
        false
    }

    /// The reply, once the end marker or the whole body was taken.
    fn reply(self) -> TurnReply;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Only white space so far.
    Unknown,
    Events,
    Json,
    Lines,
}

/// Reads one answer. Where it is no lines of JSON the form is told by its first byte, since the content type of compatible servers can't be relied on: no
/// event stream begins with a brace.
pub(super) struct Body<A> {
    assembly: A,
    form: Form,
    decoder: SseDecoder,
    /// The whole JSON body, the line that has begun, or the beginning of an event stream for error messages.
    text: Vec<u8>,
    received: usize,
    events: usize,
    ended: bool,
}

impl<A: Assembly> Body<A> {
    pub(super) fn new(assembly: A) -> Self {
        let decoder = SseDecoder::new(MAX_EVENT);
        let form = match A::FRAMING {
            Framing::Events => Form::Unknown,
            Framing::Lines => Form::Lines,
        };
        Self { assembly, form, decoder, text: Vec::new(), received: 0, events: 0, ended: false }
    }

    /// Takes a chunk; `true` = the answer is complete and the rest may be left unread.
    pub(super) fn push(&mut self, chunk: &[u8], sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        self.received += chunk.len();
        if self.received > MAX_RESPONSE {
            return Err(BodyFault::Malformed(format!("the answer is larger than {MAX_RESPONSE} bytes")));
        }
        if self.form == Form::Unknown {
            self.form = form_of(chunk);
        }
        match self.form {
            Form::Unknown => Ok(false),
            Form::Json => {
                self.text.extend_from_slice(chunk);
                Ok(false)
            }
            Form::Events => {
                let room = 1024_usize.saturating_sub(self.text.len());
                self.text.extend(chunk.iter().take(room));
                self.push_events(chunk, sink)
            }
            Form::Lines => self.push_lines(chunk, sink),
        }
    }

    fn push_lines(&mut self, chunk: &[u8], sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.text.extend_from_slice(piece);
            if self.text.len() > MAX_EVENT {
                return Err(BodyFault::Malformed(format!("a line of the answer is larger than {MAX_EVENT} bytes")));
            }
            if piece.ends_with(b"\n") && self.end_line(sink)? {
                break;
            }
        }
        Ok(self.ended)
    }

    /// Takes the line that was read; `true` = it was the last one.
    fn end_line(&mut self, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let line = std::mem::take(&mut self.text);
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            self.events += 1;
            let event = SseEvent { data: line.trim().to_owned(), ..SseEvent::default() };
            self.ended = self.assembly.event(&event, sink)?;
        }
        Ok(self.ended)
    }

    fn push_events(&mut self, chunk: &[u8], sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let events = self.decoder.push(chunk).map_err(|cause| BodyFault::Malformed(cause.to_string()))?;
        for event in events {
            self.events += 1;
            if self.assembly.event(&event, sink)? {
                self.ended = true;
                break;
            }
        }
        Ok(self.ended)
    }

    /// Some servers leave out the empty line after their last event. A piece of one is no event.
    fn take_unfinished(&mut self, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let left = self.decoder.finish().map_err(|cause| BodyFault::Malformed(cause.to_string()))?;
        let is_whole = |data: &str| data.trim() == DONE || serde_json::from_str::<IgnoredAny>(data).is_ok();
        if let Some(event) = left.filter(|event| is_whole(&event.data)) {
            self.events += 1;
            self.ended = self.assembly.event(&event, sink)?;
        }
        Ok(())
    }

    /// The reply of an answer that has ended, by its marker or with the connection.
    pub(super) fn finish(mut self, sink: &mut dyn TurnSink) -> Result<TurnReply, BodyFault> {
        if self.form == Form::Lines && !self.ended {
            // The last line may lack its end; a piece of one is an answer that broke off.
            let is_piece = serde_json::from_slice::<IgnoredAny>(&self.text).is_err();
            if is_piece && self.events > 0 {
                return Err(BodyFault::Cut);
            }
            self.end_line(sink)?;
        }
        if self.form == Form::Events && !self.ended {
            self.take_unfinished(sink)?;
        }
        let text = String::from_utf8_lossy(&self.text);
        match self.form {
            Form::Json => self.assembly.whole(&text, sink)?,
            Form::Events if self.events == 0 && !looks_like_events(&text) => {
                return Err(BodyFault::Malformed(format!(
                    "the answer is no event stream and no JSON: {}",
                    shown(&text)
                )));
            }
            _ if !self.ended && !self.assembly.is_whole() => return Err(BodyFault::Cut),
            _ => {}
        }
        Ok(self.assembly.reply())
    }
}

fn form_of(chunk: &[u8]) -> Form {
    let first = chunk.iter().find(|byte| !byte.is_ascii_whitespace());
    first.map_or(Form::Unknown, |byte| if matches!(byte, b'{' | b'[') { Form::Json } else { Form::Events })
}

fn looks_like_events(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    [":", "data", "event", "id", "retry"].iter().any(|field| text.starts_with(field))
}

#[cfg(test)]
mod tests {
    use super::super::test_server::Transcript;
    use super::*;

    struct Nothing;

    impl Assembly for Nothing {
        fn event(&mut self, _: &SseEvent, _: &mut dyn TurnSink) -> Result<bool, BodyFault> {
            Ok(false)
        }

        fn whole(&mut self, _: &str, _: &mut dyn TurnSink) -> Result<(), BodyFault> {
            Ok(())
        }

        fn reply(self) -> TurnReply {
            unreachable!("no test gets that far")
        }
    }

    fn push_until_refused(first: &[u8], piece: u8, most: usize) -> String {
        let mut body = Body::new(Nothing);
        let mut sink = Transcript::default();
        assert_eq!(body.push(first, &mut sink), Ok(false));
        let piece = vec![piece; 1 << 20];
        let refused = (0..most).find_map(|_| body.push(&piece, &mut sink).err());
        match refused {
            Some(BodyFault::Malformed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_without_end_is_refused() {
        assert!(push_until_refused(b"{", b' ', 33).contains("33554432"));
        assert!(push_until_refused(b"data: x", b'x', 5).contains("4194304"));
    }
}
