//! Random operations against a small model of the rules. The seeds are fixed, and a failure names its seed and step.

use super::cases;
use super::fixture::{Subject, begins, closed, ends, outcome, owner, stolen, tool_call};
use crate::domain::{Answer, Decision, RunErrorKind, RunId, RunStatus, StepStatus, WaitingFor};
use crate::error::Result;
use crate::store::{AgentRow, Cancelled, Ending, Grant, Written};
use serde_json::json;

cases!(random_histories_follow_the_model);

const SEEDS: u64 = 4;
const STEPS: usize = 250;

/// What the model knows of a run.
#[derive(Debug)]
struct Known {
    id: RunId,
    status: RunStatus,
    epoch: i64,
    attempt: i64,
    keeps_attempt: bool,
    cancel_requested: bool,
    owner: usize,
    steps: i64,
    /// The last step has been begun and not ended.
    open: bool,
    /// Every grant that was ever given out, the newest last.
    grants: Vec<Grant>,
}

/// splitmix64: short, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

async fn random_histories_follow_the_model(case: Subject) -> Result<()> {
    for seed in 0..SEEDS {
        let agent = case.agent(&format!("agent{seed}")).await?;
        let mut history = History { case: &case, agent, dice: Dice(seed), known: Vec::new(), stale: 0 };
        for step in 0..STEPS {
            history.act().await.map_err(|error| error.context(format!("seed {seed}, step {step}")))?;
            history.compare().await.map_err(|error| error.context(format!("seed {seed}, step {step}")))?;
        }
        assert!(history.stale > 10, "seed {seed} hardly tried a zombie");
        history.drain().await?;
    }
    Ok(())
}

struct History<'c> {
    case: &'c Subject,
    agent: AgentRow,
    dice: Dice,
    known: Vec<Known>,
    stale: usize,
}

impl History<'_> {
    async fn act(&mut self) -> Result<()> {
        self.case.advance(self.dice.below(3) as u64);
        if self.known.is_empty() {
            return self.submit().await;
        }
        match self.dice.below(12) {
            0 | 1 => self.submit().await,
            2 | 3 => self.claim().await,
            4..=6 => self.journal().await,
            7 => self.park().await,
            8 => self.answer().await,
            9 => self.release_or_finish().await,
            10 => self.cancel().await,
            _ => self.take_over().await,
        }
    }

    async fn submit(&mut self) -> Result<()> {
        let id = self.case.submit(&self.agent).await?.run.id;
        self.known.push(Known {
            id,
            status: RunStatus::Queued,
            epoch: 0,
            attempt: 0,
            keeps_attempt: false,
            cancel_requested: false,
            owner: 0,
            steps: 0,
            open: false,
            grants: Vec::new(),
        });
        Ok(())
    }

    async fn claim(&mut self) -> Result<()> {
        let by = self.dice.below(3);
        let claims = self.case.store.claim(&owner(&by.to_string()), 1).await?;
        let oldest = self.known.iter_mut().find(|run| run.status == RunStatus::Queued);
        assert_eq!(claims.first().map(|claim| claim.run.id), oldest.as_ref().map(|run| run.id));
        if let (Some(run), Some(claim)) = (oldest, claims.into_iter().next()) {
            run.status = RunStatus::Running;
            run.epoch += 1;
            run.attempt += i64::from(!run.keeps_attempt);
            run.keeps_attempt = false;
            run.owner = by;
            assert_eq!((claim.grant.epoch, claim.run.attempt), (run.epoch, run.attempt));
            run.grants.push(claim.grant);
        }
        Ok(())
    }

    /// Some run with some grant it ever had; `true` when the store has to honour it.
    fn some_grant(&mut self) -> Option<(usize, Grant, bool)> {
        let index = self.dice.below(self.known.len());
        let run = &self.known[index];
        if run.grants.is_empty() {
            return None;
        }
        // The newest grant half of the time, else any.
        let newest = run.grants.len() - 1;
        let chosen = if self.dice.below(2) == 0 { newest } else { self.dice.below(newest + 1) };
        let run = &self.known[index];
        let grant = stolen(&run.grants[chosen]);
        let holds = run.status == RunStatus::Running && grant.epoch == run.epoch;
        Some((index, grant, holds))
    }

    fn expect(&mut self, written: Written, holds: bool) {
        self.stale += usize::from(!holds);
        assert_eq!(written, if holds { Written::Done } else { Written::Stale });
    }

    async fn journal(&mut self) -> Result<()> {
        let Some((index, grant, holds)) = self.some_grant() else { return Ok(()) };
        let run = &self.known[index];
        let seq = run.steps + i64::from(!run.open);
        let batch = if run.open {
            ends(vec![outcome(seq, 1, closed(StepStatus::Completed, json!(grant.epoch)))])
        } else {
            begins(vec![tool_call(seq, 1)])
        };
        let written = self.case.store.journal(&grant, batch).await?;
        if holds {
            let run = &mut self.known[index];
            run.steps = seq;
            run.open = !run.open;
        }
        self.expect(written, holds);
        Ok(())
    }

    async fn park(&mut self) -> Result<()> {
        let Some((index, grant, holds)) = self.some_grant() else { return Ok(()) };
        let run = &self.known[index];
        let (waiting_for, doubts) =
            if run.open { (WaitingFor::InDoubt, vec![run.steps]) } else { (WaitingFor::Provider, Vec::new()) };
        let written = self.case.store.park(&grant, waiting_for, &doubts).await?;
        let run = &mut self.known[index];
        let cancelled = holds && run.cancel_requested;
        if holds {
            run.status = if cancelled { RunStatus::Cancelled } else { RunStatus::InputRequired };
        }
        self.expect(written, holds && !cancelled);
        Ok(())
    }

    async fn answer(&mut self) -> Result<()> {
        let index = self.dice.below(self.known.len());
        let skip = self.known[index].open;
        let decision = if skip { Decision::Skip } else { Decision::Retry };
        let answer = Answer { decision, result: None };
        let answered = self.case.store.answer(self.known[index].id, None, answer, self.case.entry("run.respond")).await;
        let run = &mut self.known[index];
        assert_eq!(answered.is_ok(), run.status == RunStatus::InputRequired);
        if answered.is_ok() {
            run.status = RunStatus::Queued;
            run.open = false;
        }
        Ok(())
    }

    async fn release_or_finish(&mut self) -> Result<()> {
        let Some((index, grant, holds)) = self.some_grant() else { return Ok(()) };
        let store = &self.case.store;
        let (written, next) = match self.dice.below(4) {
            0 | 1 => (store.release(&grant).await?, RunStatus::Queued),
            2 => {
                let done = Ending::Completed { output: json!(1) };
                (store.finish(&grant, done).await?, RunStatus::Completed)
            }
            _ => {
                let failed = Ending::Failed { kind: RunErrorKind::Tool, message: "no".to_owned() };
                (store.finish(&grant, failed).await?, RunStatus::Failed)
            }
        };
        let run = &mut self.known[index];
        let cancelled = holds && next == RunStatus::Queued && run.cancel_requested;
        if holds {
            run.status = if cancelled { RunStatus::Cancelled } else { next };
            run.keeps_attempt = run.status == RunStatus::Queued;
        }
        self.expect(written, holds && !cancelled);
        Ok(())
    }

    async fn cancel(&mut self) -> Result<()> {
        let index = self.dice.below(self.known.len());
        let answer = self.case.store.cancel(self.known[index].id, self.case.entry("run.cancel")).await?;
        let run = &mut self.known[index];
        match answer {
            Cancelled::Done(_) => {
                assert!(matches!(run.status, RunStatus::Queued | RunStatus::InputRequired));
                run.status = RunStatus::Cancelled;
            }
            Cancelled::Requested(_) => {
                assert_eq!(run.status, RunStatus::Running);
                run.cancel_requested = true;
            }
            Cancelled::Already(_) => assert!(run.status.is_terminal()),
        }
        Ok(())
    }

    async fn take_over(&mut self) -> Result<()> {
        let by = self.dice.below(3);
        let freed = self.case.store.take_over(&owner(&by.to_string())).await?;
        let mut expected = 0;
        for run in self.known.iter_mut().filter(|run| run.status == RunStatus::Running && run.owner != by) {
            run.epoch += 1;
            run.status = if run.cancel_requested { RunStatus::Cancelled } else { RunStatus::Queued };
            expected += u64::from(!run.cancel_requested);
        }
        assert_eq!(freed, expected);
        Ok(())
    }

    async fn compare(&mut self) -> Result<()> {
        let index = self.dice.below(self.known.len());
        let known = &self.known[index];
        let run = self.case.run(known.id).await?;
        assert_eq!((run.status, run.attempt, run.steps), (known.status, known.attempt, known.steps), "{known:?}");
        assert_eq!(run.ended_at.is_some(), known.status.is_terminal());
        assert_eq!(run.waiting_for.is_some(), known.status == RunStatus::InputRequired);
        let terminal = self.case.event_types(known.id).await?.iter().filter(|kind| kind.is_terminal()).count();
        assert_eq!(terminal, usize::from(known.status.is_terminal()));
        Ok(())
    }

    /// Ends what is left, so that the next history starts with an empty queue.
    async fn drain(&self) -> Result<()> {
        for run in &self.known {
            self.case.store.cancel(run.id, self.case.entry("run.cancel")).await?;
        }
        self.case.store.take_over(&owner("nobody")).await?;
        assert_eq!(self.case.store.live_runs().await?, 0);
        Ok(())
    }
}
