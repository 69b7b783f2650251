//! A run's journal as a conversation, and what is due next. Pure: rows in, decisions out.

use super::doubt;
use super::shown::{Shown, bounded, cut};
use crate::domain::{Decision, StepKind, StepStatus, ToolEffect};
use crate::error::{Error, Result};
use crate::llm::{Finish, Native, ToolCall, TurnReply};
use crate::store::{JournalRow, NativeBlocks};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of a model step that only plans; any other is called after its model.
pub(super) const PLAN: &str = "plan";

/// What has happened in a run so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History {
    pub(super) turns: Vec<Turn>,
    last_seq: i64,
}

/// One round: a model call, and the tool calls it asked for, in the order in which it did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) model: ModelStep,
    pub(super) calls: Vec<CallStep>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ModelStep {
    pub(super) seq: i64,
    pub(super) r#try: i64,
    /// It only plans.
    pub(super) plan: bool,
    pub(super) state: ModelState,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ModelState {
    /// Asked; in a journal that was just read, nobody waits for the answer any more.
    Started,
    Failed,
    Replied(Reply),
}

/// A model's answer, as the journal keeps it. The native blocks are kept beside it, byte for byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) text: String,
    pub(super) tool_calls: Vec<ToolCall>,
    pub(super) finish: Finish,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) notice: Option<String>,
    /// How many requests it took, where one wasn't enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wire_attempts: Option<u32>,
    #[serde(skip)]
    pub(super) native: Option<Native>,
}

/// The newest try of a tool call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallStep {
    pub(super) seq: i64,
    pub(super) r#try: i64,
    pub(super) effect: ToolEffect,
    pub(super) state: CallState,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum CallState {
    /// It left; in a journal that was just read, its result is lost.
    Started,
    /// Nobody knows its outcome, and nobody has decided yet.
    InDoubt,
    /// Somebody has decided that it is made again, or it was handed back before it had left.
    ToRetry,
    /// The model may know.
    Done(Shown),
}

/// What is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Model,
    /// Calls of the last turn have to be issued, made again or decided.
    Calls,
    /// The model has answered.
    End,
}

/// The model call that begins or goes on with a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) turn: i64,
    pub(super) seq: i64,
    pub(super) r#try: i64,
    /// The try before it never got its answer, and has to be closed.
    pub(super) lost: Option<i64>,
    /// It only plans.
    pub(super) plan: bool,
}

impl From<TurnReply> for Reply {
    fn from(reply: TurnReply) -> Self {
        let TurnReply { text, calls, native, usage: _, finish, notice, wire_attempts } = reply;
        let wire_attempts = Some(wire_attempts).filter(|attempts| *attempts > 1);
        Self { text, tool_calls: calls, finish, notice: notice.map(bounded), wire_attempts, native }
    }
}

impl History {
    /// Reads the rows of a journal, sorted by `(seq, try)`. Of each step only the newest try counts. `model` is the one that the run is
    /// pinned to, and the one that made its native blocks.
    pub(super) fn read(rows: &[JournalRow], model: &str) -> Result<Self> {
        let newest: BTreeMap<i64, &JournalRow> = rows.iter().map(|row| (row.step.seq, row)).collect();
        let mut history = Self::default();
        for (seq, row) in newest {
            history.last_seq = seq;
            match row.step.kind {
                StepKind::Model => history.turns.push(Turn { model: model_step(row, model)?, calls: Vec::new() }),
                StepKind::Tool => {
                    let turn =
                        history.turns.last_mut().ok_or_else(|| unreadable(row, "comes before any model call"))?;
                    turn.calls.push(call_step(row));
                }
                StepKind::Wait => {}
            }
        }
        Ok(history)
    }

    /// Turns begun so far.
    pub(super) fn turn(&self) -> i64 {
        i64::try_from(self.turns.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn due(&self) -> Due {
        let Some(turn) = self.turns.last() else { return Due::Model };
        let ModelState::Replied(reply) = &turn.model.state else { return Due::Model };
        let all_done = turn.calls.iter().all(|call| matches!(call.state, CallState::Done(_)));
        match reply.tool_calls.len() {
            0 if turn.model.plan => Due::Model,
            0 => Due::End,
            asked if all_done && turn.calls.len() >= asked => Due::Model,
            _ => Due::Calls,
        }
    }

    /// The last turn, if the model has replied in it.
    pub(super) fn replied(&self) -> Option<(&Turn, &Reply)> {
        let turn = self.turns.last()?;
        match &turn.model.state {
            ModelState::Replied(reply) => Some((turn, reply)),
            ModelState::Started | ModelState::Failed => None,
        }
    }

    /// Answers that asked for no call and were no plan: the second one is there because the first didn't fit.
    pub(super) fn answers(&self) -> usize {
        let is_answer =
            |turn: &&Turn| matches!(&turn.model.state, ModelState::Replied(reply) if reply.tool_calls.is_empty());
        self.turns.iter().filter(|turn| !turn.model.plan).filter(is_answer).count()
    }

    /// Begins a turn, or asks again in one whose answer never came. `plan`: the first one only plans.
    pub(super) fn begin_model(&mut self, plan: bool) -> Asking {
        let state = ModelState::Started;
        if let Some(Turn { model, .. }) = self.turns.last_mut()
            && !matches!(model.state, ModelState::Replied(_))
        {
            let lost = (model.state == ModelState::Started).then_some(model.r#try);
            *model = ModelStep { r#try: model.r#try + 1, state, ..*model };
            let (seq, r#try, plan) = (model.seq, model.r#try, model.plan);
            return Asking { turn: self.turn(), seq, r#try, lost, plan };
        }
        let (seq, plan) = (self.next_seq(), plan && self.turns.is_empty());
        self.turns.push(Turn { model: ModelStep { seq, r#try: 1, plan, state }, calls: Vec::new() });
        Asking { turn: self.turn(), seq, r#try: 1, lost: None, plan }
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        if let Some(turn) = self.turns.last_mut() {
            turn.model.state = ModelState::Replied(reply);
        }
    }

    /// The steps of the last turn's calls of `tool` that have no outcome yet.
    pub(super) fn open_calls(&self, tool: &str) -> Vec<i64> {
        let Some((turn, reply)) = self.replied() else { return Vec::new() };
        let calls = reply.tool_calls.iter().zip(&turn.calls);
        calls
            .filter(|(call, step)| call.name == tool && step.state == CallState::Started)
            .map(|(_, step)| step.seq)
            .collect()
    }

    /// Calls of the last turn have no outcome yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.turns.last().is_some_and(|turn| turn.calls.iter().any(|call| call.state == CallState::Started))
    }

    /// Cuts the results of tools that `is_meant` to what a model is shown: what the store writes itself is kept whole there.
    pub(super) fn cut(&mut self, limit: usize, is_meant: impl Fn(&str) -> bool) {
        for turn in &mut self.turns {
            let ModelState::Replied(reply) = &turn.model.state else { continue };
            for (call, step) in reply.tool_calls.iter().zip(&mut turn.calls).filter(|(call, _)| is_meant(&call.name)) {
                if let CallState::Done(shown) = &mut step.state
                    && let Some(cut) = cut(&shown.content, limit)
                {
                    tracing::debug!(tool = call.name, "a result is shown in part");
                    shown.content = cut;
                }
            }
        }
    }

    /// Begins the next call of the last turn.
    pub(super) fn begin_call(&mut self) -> i64 {
        let seq = self.next_seq();
        if let Some(turn) = self.turns.last_mut() {
            turn.calls.push(CallStep { seq, r#try: 1, effect: ToolEffect::default(), state: CallState::Started });
        }
        seq
    }

    /// The `at`-th call of the last turn.
    pub(super) fn call_mut(&mut self, at: usize) -> Option<&mut CallStep> {
        self.turns.last_mut()?.calls.get_mut(at)
    }

    fn next_seq(&mut self) -> i64 {
        self.last_seq += 1;
        self.last_seq
    }
}

impl Reply {
    /// As the journal keeps it.
    pub(super) fn to_result(&self) -> Result<Value> {
        serde_json::to_value(self)
            .map_err(|cause| Error::internal("a model's reply can't be written as JSON").source(cause))
    }

    pub(super) fn native_blocks(&self) -> Option<NativeBlocks> {
        let native = self.native.as_ref()?;
        Some(NativeBlocks { dialect: native.provider.clone(), json: native.blocks.get().to_owned() })
    }
}

fn model_step(row: &JournalRow, model: &str) -> Result<ModelStep> {
    let state = match (row.step.status, &row.step.result) {
        (StepStatus::Completed, Some(result)) => {
            let mut reply =
                Reply::deserialize(result).map_err(|cause| unreadable(row, "has an unreadable reply").source(cause))?;
            reply.native = row.native.as_ref().map(|native| read_native(row, native, model)).transpose()?;
            ModelState::Replied(reply)
        }
        (StepStatus::Started, _) => ModelState::Started,
        _ => ModelState::Failed,
    };
    Ok(ModelStep { seq: row.step.seq, r#try: row.step.r#try, plan: row.step.name == PLAN, state })
}

fn read_native(row: &JournalRow, native: &NativeBlocks, model: &str) -> Result<Native> {
    let blocks = RawValue::from_string(native.json.clone())
        .map_err(|cause| unreadable(row, "has unreadable provider blocks").source(cause))?;
    Ok(Native { provider: native.dialect.clone(), model: model.to_owned(), blocks })
}

fn call_step(row: &JournalRow) -> CallStep {
    let step = &row.step;
    let decision = row.answer.as_ref().map(|answer| answer.decision);
    let state = match (step.status, decision) {
        (StepStatus::Started, _) => CallState::Started,
        (StepStatus::InDoubt | StepStatus::Failed, Some(Decision::Retry)) => CallState::ToRetry,
        (StepStatus::InDoubt, None) => CallState::InDoubt,
        _ => CallState::Done(shown(row)),
    };
    CallStep { seq: step.seq, r#try: step.r#try, effect: row.effect.unwrap_or_default(), state }
}

/// What the model was shown, or is now, of a call that is settled.
fn shown(row: &JournalRow) -> Shown {
    let step = &row.step;
    let given = row.answer.as_ref().and_then(|answer| answer.result.as_ref());
    match (step.status, &step.result, given) {
        (StepStatus::Skipped, ..) => Shown::error(doubt::unknown(step.error.as_deref().unwrap_or("it was cut off"))),
        (StepStatus::Completed, Some(result), _) => {
            let shown = Shown::result(result);
            Shown { content: row.shown.clone().unwrap_or(shown.content), ..shown }
        }
        (_, _, Some(given)) => Shown { content: given.clone(), is_error: false },
        _ => Shown::error(step.error.as_deref().unwrap_or("the call failed")),
    }
}

fn unreadable(row: &JournalRow, what: &str) -> Error {
    Error::internal(format!("step {} of run `{}` {what}", row.step.seq, row.step.run_id))
        .details(json!({ "try": row.step.r#try }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{Answer, Effect, EnvironmentNumber, RunId, Step, Timestamp, Usage};

    fn row(seq: i64, r#try: i64, kind: StepKind, status: StepStatus) -> JournalRow {
        let at = Timestamp::from_millis(0);
        let effect = ToolEffect { effect: Effect::Write, trusted: true, ..ToolEffect::default() };
        JournalRow {
            step: Step {
                run_id: RunId::new(at, EnvironmentNumber::new(1).unwrap(), 1),
                seq,
                turn: 1,
                kind,
                status,
                r#try,
                name: "n".into(),
                effect: None,
                idempotency_key: None,
                waiting_for: None,
                arguments: None,
                result: None,
                truncated: false,
                error: None,
                usage: None,
                started_at: at,
                ended_at: None,
                duration_ms: None,
            },
            effect: (kind == StepKind::Tool).then_some(effect),
            shown: None,
            native: None,
            answer: None,
        }
    }

    fn reply(calls: &[&str]) -> Reply {
        let call = |id: &&str| ToolCall { id: (*id).into(), name: "t".into(), arguments: "{\"a\": 1}".into() };
        let tool_calls = calls.iter().map(call).collect();
        Reply {
            text: "hm".into(),
            tool_calls,
            finish: Finish::ToolCalls,
            notice: None,
            wire_attempts: None,
            native: None,
        }
    }

    fn replied(seq: i64, r#try: i64, calls: &[&str]) -> JournalRow {
        let mut row = row(seq, r#try, StepKind::Model, StepStatus::Completed);
        row.step.result = Some(reply(calls).to_result().unwrap());
        row
    }

    #[test]
    fn an_empty_journal_asks_the_model() {
        let mut history = History::read(&[], "m").unwrap();
        assert_eq!(history.due(), Due::Model);
        assert_eq!(history.begin_model(false), Asking { turn: 1, seq: 1, r#try: 1, lost: None, plan: false });
    }

    #[test]
    fn a_model_call_that_was_cut_off_is_closed_and_asked_again_in_its_place() {
        let mut history = History::read(&[row(1, 1, StepKind::Model, StepStatus::Started)], "m").unwrap();
        assert_eq!(history.due(), Due::Model);
        assert_eq!(history.begin_model(true), Asking { turn: 1, seq: 1, r#try: 2, lost: Some(1), plan: false });
        let failed = [row(1, 1, StepKind::Model, StepStatus::Failed)];
        let mut history = History::read(&failed, "m").unwrap();
        assert_eq!(history.begin_model(true), Asking { turn: 1, seq: 1, r#try: 2, lost: None, plan: false });
    }

    #[test]
    fn a_plan_is_followed_by_a_turn_and_is_no_answer() {
        let mut history = History::default();
        assert!(history.begin_model(true).plan);
        let mut planned = replied(1, 1, &[]);
        planned.step.name = PLAN.into();
        let mut history = History::read(&[planned], "m").unwrap();
        assert_eq!((history.due(), history.answers()), (Due::Model, 0));
        assert!(!history.begin_model(true).plan, "only the first turn plans");
        history.reply(reply(&[]));
        assert_eq!((history.due(), history.answers()), (Due::End, 1));
        let mut cut = row(1, 1, StepKind::Model, StepStatus::Started);
        cut.step.name = PLAN.into();
        assert!(History::read(&[cut], "m").unwrap().begin_model(true).plan, "cut off, it is made again as what it was");
    }

    #[test]
    fn calls_are_due_until_every_one_of_them_is_settled() {
        let mut rows = vec![replied(1, 1, &["a", "b"]), row(2, 1, StepKind::Tool, StepStatus::Completed)];
        assert_eq!(History::read(&rows, "m").unwrap().due(), Due::Calls);
        rows.push(row(3, 1, StepKind::Tool, StepStatus::Started));
        assert_eq!(History::read(&rows, "m").unwrap().due(), Due::Calls);
        rows.push(row(3, 2, StepKind::Tool, StepStatus::Failed));
        let mut history = History::read(&rows, "m").unwrap();
        assert_eq!(history.due(), Due::Model);
        assert_eq!(history.begin_model(true), Asking { turn: 2, seq: 4, r#try: 1, lost: None, plan: false });
        assert_eq!(History::read(&[replied(1, 1, &[])], "m").unwrap().due(), Due::End);
    }

    #[test]
    fn a_persons_answer_decides_what_a_step_in_doubt_is() {
        let settled = |status: StepStatus, decision: Option<Decision>| {
            let mut doubtful = row(2, 1, StepKind::Tool, status);
            let result = (decision == Some(Decision::Result)).then(|| "given".to_owned());
            doubtful.answer = decision.map(|decision| Answer { decision, result });
            let rows = [replied(1, 1, &["a"]), doubtful];
            History::read(&rows, "m").unwrap().turns.remove(0).calls.remove(0).state
        };
        assert_eq!(settled(StepStatus::InDoubt, None), CallState::InDoubt);
        assert_eq!(settled(StepStatus::InDoubt, Some(Decision::Retry)), CallState::ToRetry);
        assert_eq!(settled(StepStatus::Failed, Some(Decision::Retry)), CallState::ToRetry, "it had never left");
        let CallState::Done(skipped) = settled(StepStatus::Skipped, Some(Decision::Skip)) else {
            panic!("not settled")
        };
        assert!(skipped.is_error && skipped.content.contains("unknown"));
        let given = CallState::Done(Shown { content: "given".into(), is_error: false });
        assert_eq!(settled(StepStatus::Completed, Some(Decision::Result)), given);
    }

    #[test]
    fn a_reply_comes_back_from_the_journal_as_it_was_byte_for_byte() {
        let blocks = r#"[ {"signature":"A=="} ]"#;
        let native =
            Native { provider: "d".into(), model: "m".into(), blocks: RawValue::from_string(blocks.into()).unwrap() };
        let reply = TurnReply {
            text: "t".into(),
            calls: reply(&["a"]).tool_calls,
            native: Some(native),
            usage: Some(Usage::default()),
            finish: Finish::Other("odd".into()),
            notice: Some("n".into()),
            wire_attempts: 2,
        };
        let reply = Reply::from(reply);
        let mut kept = row(1, 1, StepKind::Model, StepStatus::Completed);
        kept.step.result = Some(reply.to_result().unwrap());
        kept.native = reply.native_blocks();
        assert_eq!(kept.native.as_ref().unwrap().json, blocks);
        let history = History::read(&[kept], "m").unwrap();
        assert_eq!(history.replied().unwrap().1, &reply);
    }
}
