//! Responses events, put together. An item counts as it is when it is done: what is encrypted in it may still be incomplete when it is
//! added. Its JSON text is kept, and goes back later.
//!
//! Events name the place of their item in the output; llama-server's don't, and there items are told apart by their ids.

use super::super::body::{Assembly, BodyFault};
use super::super::counts::{Tokens, count};
use super::super::error::Fault;
use super::super::names::NameMap;
use super::super::turn::{reported, with_ids};
use super::super::{Finish, Native, ToolCall, TurnReply, TurnSink};
use super::DIALECT;
use crate::domain::Usage;
use crate::net::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    r#type: String,
    output_index: Option<usize>,
    /// Of a delta: the id of its item, or of its call.
    item_id: Option<String>,
    #[serde(borrow)]
    item: Option<&'a RawValue>,
    /// Text in the events that matter here.
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status: Option<String>,
    #[serde(borrow)]
    output: Option<Vec<&'a RawValue>>,
    usage: Option<WireUsage>,
    error: Option<Value>,
    incomplete_details: Option<Incomplete>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<Tokens>,
    output_tokens: Option<Tokens>,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    cached_tokens: Option<Tokens>,
}

#[derive(Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<Tokens>,
}

/// What counts for us in an output item: of a kind that nobody here knows, that there is one.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    r#type: String,
    id: Option<String>,
    call_id: Option<String>,
    name: String,
    arguments: Option<String>,
    content: Option<Vec<Part>>,
}

/// What is read of an item of whatever kind: texts, where they are texts.
#[derive(Deserialize)]
struct Marks {
    r#type: Option<Value>,
    id: Option<Value>,
    call_id: Option<Value>,
}

/// Text, where it is a text: parts of other kinds may have anything under these names.
#[derive(Deserialize)]
struct Part {
    text: Option<Value>,
    refusal: Option<Value>,
}

/// The kinds of items whose fields are read.
const A_MESSAGE: &str = "message";
const A_CALL: &str = "function_call";

/// An item in the making.
#[derive(Debug, Default)]
struct Draft {
    /// Its kind and the ids that it is called by, as far as they are known.
    kind: String,
    ids: Vec<String>,
    /// As it was added, for what never gets done.
    added: String,
    done: Option<String>,
    /// Text that was shown so far.
    shown: String,
    arguments: String,
}

/// One answer in the making.
pub(super) struct ResponseAssembly<'a> {
    names: &'a NameMap,
    model: &'a str,
    /// The length of the conversation so far, for calls without an id.
    position: usize,
    drafts: BTreeMap<usize, Draft>,
    /// Events came that didn't name their places.
    unplaced: bool,
    /// The message whose text was shown last.
    showing: Option<usize>,
    refused: bool,
    usage: Usage,
    /// The word for an end before its time.
    ended: Option<String>,
}

impl<'a> ResponseAssembly<'a> {
    pub(super) fn new(names: &'a NameMap, model: &'a str, position: usize) -> Self {
        Self {
            names,
            model,
            position,
            drafts: BTreeMap::new(),
            unplaced: false,
            showing: None,
            refused: false,
            usage: Usage::default(),
            ended: None,
        }
    }

    /// Shows more text of a message; a second message begins after an empty line.
    fn show(&mut self, index: usize, text: &str, sink: &mut dyn TurnSink) {
        if text.is_empty() {
            return;
        }
        if self.showing.is_some_and(|last| last != index) {
            sink.text(BETWEEN);
        }
        self.showing = Some(index);
        self.drafts.entry(index).or_default().shown.push_str(text);
        sink.text(text);
    }

    /// Where an item that is added belongs.
    fn place_of_new(&mut self, named: Option<usize>) -> usize {
        self.unplaced |= named.is_none();
        named.unwrap_or_else(|| self.drafts.last_key_value().map_or(0, |(last, _)| last + 1))
    }

    /// Where a delta belongs that names its item by one of its ids: else it goes on with the last.
    fn place_of_delta(&mut self, named: Option<usize>, id: Option<String>) -> usize {
        self.unplaced |= named.is_none();
        let item = Item { id, ..Item::default() };
        let last = || self.drafts.last_key_value().map(|(last, _)| *last);
        named.or_else(|| self.called(&item)).or_else(last).unwrap_or_default()
    }

    /// Where an item that is done belongs: under its ids, else to the last, if that is of its kind and not done.
    fn place_of_done(&mut self, named: Option<usize>, item: &Item) -> usize {
        let last = self.drafts.last_key_value().filter(|(_, draft)| draft.done.is_none() && draft.may_be(item));
        let known = named.or_else(|| self.called(item)).or(last.map(|(last, _)| *last));
        self.unplaced |= named.is_none();
        known.unwrap_or_else(|| self.place_of_new(None))
    }

    /// The draft that has an id of `item`, first among those that aren't done.
    fn called(&self, item: &Item) -> Option<usize> {
        let mut found =
            self.drafts.iter().filter(|(_, draft)| draft.is_called(item)).map(|(place, draft)| (draft, *place));
        let first = found.next()?;
        Some(std::iter::once(first).chain(found).find(|(draft, _)| draft.done.is_none()).unwrap_or(first).1)
    }

    fn added(&mut self, named: Option<usize>, raw: &RawValue) {
        let item = read(raw.get()).unwrap_or_default();
        let place = self.place_of_new(named);
        let draft = self.drafts.entry(place).or_default();
        draft.known_by(&item);
        draft.added = raw.get().to_owned();
    }

    fn done(&mut self, named: Option<usize>, raw: &RawValue, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let item = read(raw.get())?;
        let text = item.text();
        self.refused |= item.content.iter().flatten().any(|part| part.refusal.as_ref().is_some_and(Value::is_string));
        let place = self.place_of_done(named, &item);
        let draft = self.drafts.entry(place).or_default();
        draft.known_by(&item);
        draft.done = Some(raw.get().to_owned());
        let unseen = text.strip_prefix(draft.shown.as_str()).unwrap_or_default().to_owned();
        self.show(place, &unseen, sink);
        Ok(())
    }

    /// Takes from the output as it is at its end what hasn't come before.
    fn last(&mut self, output: &[&RawValue], sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let mut places: Vec<Option<usize>> = (0..output.len()).map(Some).collect();
        if self.unplaced {
            let items = output.iter().map(|item| read(item.get())).collect::<Result<Vec<Item>, _>>()?;
            places = self.matched(&items);
        }
        for (place, item) in places.into_iter().zip(output) {
            let place = place.unwrap_or_else(|| self.place_of_new(None));
            if self.drafts.get(&place).is_none_or(|draft| draft.done.is_none()) {
                self.done(Some(place), item, sink)?;
            }
        }
        Ok(())
    }

    /// The drafts that `items` are, each at most once: by an id, else the next of their kind. A call must not be made twice because its
    /// server calls it by another id at the end.
    fn matched(&self, items: &[Item]) -> Vec<Option<usize>> {
        let mut free: Vec<(&usize, &Draft)> = self.drafts.iter().collect();
        let mut take = |is_it: &dyn Fn(&Draft) -> bool| {
            let at = free.iter().position(|(_, draft)| is_it(draft))?;
            Some(*free.remove(at).0)
        };
        let by_id: Vec<_> = items.iter().map(|item| take(&|draft| draft.is_called(item))).collect();
        let rest = by_id.into_iter().zip(items);
        rest.map(|(place, item)| place.or_else(|| take(&|draft| draft.may_be(item)))).collect()
    }

    /// Takes the response as it is at its end.
    fn response(&mut self, raw: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        let response: Response<'_> =
            serde_json::from_str(raw).map_err(|cause| BodyFault::malformed("the response", &cause))?;
        if let Some(error) = &response.error {
            return Err(BodyFault::Reported(Fault::from_value(error)));
        }
        let status = response.status.unwrap_or_default();
        if status == "failed" {
            return Err(BodyFault::Reported(Fault::saying("the response failed, and no reason was given".into())));
        }
        let output = response.output;
        if status.is_empty() && output.is_none() {
            return Err(BodyFault::Malformed("the answer has no output".to_owned()));
        }
        self.last(&output.unwrap_or_default(), sink)?;
        self.usage = response.usage.map(Usage::from).unwrap_or_default();
        let reason = response.incomplete_details.and_then(|details| details.reason);
        self.ended = reason.or(match status.as_str() {
            "" | "completed" => None,
            _ => Some(status),
        });
        Ok(())
    }

    fn finish(&self, called: bool) -> Finish {
        match Finish::of(self.ended.as_deref(), called) {
            Finish::Stop if self.refused => Finish::Refusal,
            finish => finish,
        }
    }

    /// Whole or not at all: calls without what was thought before them would be refused.
    fn native(&self) -> Option<Native> {
        let items: Option<Vec<&str>> = self.drafts.values().map(|draft| draft.done.as_deref()).collect();
        let items = items.filter(|items| !items.is_empty())?;
        let blocks = RawValue::from_string(format!("[{}]", items.join(","))).ok()?;
        Some(Native { provider: DIALECT.into(), model: self.model.to_owned(), blocks })
    }
}

/// What stands between the texts of two messages.
const BETWEEN: &str = "\n\n";

impl Assembly for ResponseAssembly<'_> {
    fn event(&mut self, event: &SseEvent, sink: &mut dyn TurnSink) -> Result<bool, BodyFault> {
        let data = event.data.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(false);
        }
        let reported = || Err(BodyFault::Reported(Fault::parse(data)));
        if event.event == "error" {
            return reported();
        }
        let said: Event<'_> = serde_json::from_str(data).map_err(|cause| BodyFault::malformed("an event", &cause))?;
        let index = said.output_index;
        match (said.r#type.as_str(), said.item, said.delta, said.response) {
            ("error", ..) => return reported(),
            ("response.completed" | "response.incomplete" | "response.failed", _, _, Some(response)) => {
                self.response(response.get(), sink)?;
                return Ok(true);
            }
            ("response.output_item.added", Some(item), ..) => self.added(index, item),
            ("response.output_item.done", Some(item), ..) => self.done(index, item, sink)?,
            ("response.output_text.delta" | "response.refusal.delta", _, Some(delta), _) => {
                let place = self.place_of_delta(index, said.item_id);
                self.show(place, &text_of(delta), sink);
            }
            ("response.function_call_arguments.delta", _, Some(delta), _) => {
                let place = self.place_of_delta(index, said.item_id);
                self.drafts.entry(place).or_default().arguments.push_str(&text_of(delta));
            }
            // What is thought aloud, searches, and whatever is added to the API later.
            _ => {}
        }
        Ok(false)
    }

    fn whole(&mut self, body: &str, sink: &mut dyn TurnSink) -> Result<(), BodyFault> {
        self.response(body, sink)
    }

    fn reply(self) -> TurnReply {
        let items: Vec<Item> = self.drafts.values().map(Draft::item).collect();
        let finish = self.finish(items.iter().any(Item::is_call));
        // No arguments at all means none are needed, unless the answer ended before its time.
        let is_whole = finish.is_whole();
        let calls = items.iter().filter(|item| item.is_call()).map(|item| {
            let arguments = item.arguments.clone().unwrap_or_default();
            let none_needed = is_whole && arguments.trim().is_empty();
            ToolCall {
                id: item.call_id.clone().or_else(|| item.id.clone()).unwrap_or_default(),
                name: self.names.ours(&item.name),
                arguments: if none_needed { "{}".to_owned() } else { arguments },
            }
        });
        let mut calls: Vec<ToolCall> = calls.collect();
        let renamed = with_ids(&mut calls, self.position);
        let texts: Vec<String> = items.iter().map(Item::text).filter(|text| !text.is_empty()).collect();
        let native = self.native().filter(|_| !renamed);
        TurnReply {
            text: texts.join(BETWEEN),
            calls,
            native,
            usage: reported(self.usage),
            finish,
            notice: None,
            wire_attempts: 1,
        }
    }
}

impl Draft {
    fn known_by(&mut self, item: &Item) {
        self.kind.clone_from(&item.r#type);
        self.ids.extend(item.ids().map(str::to_owned));
    }

    fn is_called(&self, item: &Item) -> bool {
        item.ids().any(|id| self.ids.iter().any(|known| known == id))
    }

    /// Is it of the item's kind? Some servers send text without having added its message.
    fn may_be(&self, item: &Item) -> bool {
        let is_text = || self.kind.is_empty() && !self.shown.is_empty() && item.r#type == "message";
        self.kind == item.r#type || is_text()
    }

    /// As it is, or as far as it came.
    fn item(&self) -> Item {
        if let Some(done) = &self.done {
            return read(done).unwrap_or_default();
        }
        let mut item = read(&self.added).unwrap_or_default();
        if item.is_call() {
            item.arguments = Some(self.arguments.clone());
        } else if !self.shown.is_empty() {
            item.content = Some(vec![Part { text: Some(self.shown.clone().into()), refusal: None }]);
        }
        item
    }
}

impl Item {
    fn ids(&self) -> impl Iterator<Item = &str> {
        [&self.id, &self.call_id].into_iter().flatten().map(String::as_str).filter(|id| !id.is_empty())
    }

    fn is_call(&self) -> bool {
        self.r#type == A_CALL
    }

    /// What a message says or declines to say; nothing of what was thought.
    fn text(&self) -> String {
        let parts = self.content.iter().flatten().filter(|_| self.r#type == A_MESSAGE);
        let text = |part: &Option<Value>| part.as_ref().and_then(Value::as_str).map(str::to_owned);
        parts.filter_map(|part| text(&part.text).or_else(|| text(&part.refusal))).collect()
    }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            input_tokens: count(wire.input_tokens),
            cached_input_tokens: count(wire.input_tokens_details.and_then(|details| details.cached_tokens)),
            output_tokens: count(wire.output_tokens),
            reasoning_tokens: count(wire.output_tokens_details.and_then(|details| details.reasoning_tokens)),
            cost_microusd: None,
        }
    }
}

fn read(item: &str) -> Result<Item, BodyFault> {
    let malformed = |cause| BodyFault::malformed("an output item", &cause);
    let marks: Marks = serde_json::from_str(item).map_err(malformed)?;
    let text = |mark: Option<Value>| mark.as_ref().and_then(Value::as_str).map(str::to_owned);
    match text(marks.r#type).unwrap_or_default() {
        kind if kind == A_MESSAGE || kind == A_CALL => serde_json::from_str(item).map_err(malformed),
        r#type => Ok(Item { r#type, id: text(marks.id), call_id: text(marks.call_id), ..Item::default() }),
    }
}

fn text_of(delta: &RawValue) -> String {
    serde_json::from_str(delta.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
